"""Programs for TPUs that are not here: their text is added up right, and the real compiler agrees with arithmetic."""

import pytest

from benchmarks import accelerators_chips as chips
from benchmarks import accelerators_figures as figures
from benchmarks import accelerators_programs as programs
from benchmarks import accelerators_table as table
from benchmarks.accelerators_collectives import group_size, traffic
from benchmarks.accelerators_memory import moved_bytes
from benchmarks.accelerators_text import parse
from cnn import geometry
from cnn.runtime.devices import SHARDINGS, Devices
from tests.helpers import run_python

REASON = "compiles for TPUs: python -m pip install -r requirements-tpu-compiler.txt"
needs_compiler = pytest.mark.skipif(not chips.has_compiler(), reason=REASON)

# The text of the compiler for TPUs, without the parts that are not parsed. S(1) marks memory on the chip.
PROGRAM = """HloModule jit_step, is_scheduled=true, entry_computation_layout={(f32[8,4]{1,0})->f32[8,4]{1,0}}

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%less (c: (s32[], f32[8,4])) -> pred[] {
  %c = (s32[]{:T(128)}, f32[8,4]{1,0}) parameter(0)
  %limit = s32[]{:T(128)} constant(5)
  %now = s32[]{:T(128)} get-tuple-element(%c), index=0
  ROOT %go = pred[] compare(%now, %limit), direction=LT
}

%turn (c.1: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %c.1 = (s32[]{:T(128)}, f32[8,4]{1,0}) parameter(0)
  %now.1 = s32[]{:T(128)S(6)} get-tuple-element(%c.1), index=0
  %x.1 = f32[8,4]{1,0} get-tuple-element(%c.1), index=1
  %passed = f32[8,4]{1,0} collective-permute(%x.1), channel_id=1, source_target_pairs={{0,1},{1,2},{2,3},{3,0}}
  ROOT %both = (s32[]{:T(128)}, f32[8,4]{1,0}) tuple(%now.1, %passed)
}

%part (p.0: f32[8,4], p.1: s32[]) -> f32[2,4] {
  %p.0 = f32[8,4]{1,0} parameter(0)
  %p.1 = s32[] parameter(1)
  %whole = f32[8,4]{1,0} all-reduce(%p.0), channel_id=2, replica_groups=[1,4]<=[4], to_apply=%add
  ROOT %mine = f32[2,4]{1,0} dynamic-slice(%whole, %p.1, %p.1), dynamic_slice_sizes={2,4}
}

%begun (r.0: f32[8,4]) -> (f32[8,4], f32[16,4]) {
  %r.0 = f32[8,4]{1,0} parameter(0)
  %early = f32[16,4]{1,0} all-gather(%r.0), channel_id=9, replica_groups={{0,1},{2,3}}, dimensions={0}
  ROOT %handle = (f32[8,4]{1,0}, f32[16,4]{1,0}) custom-call(%early), custom_call_target="AsyncCollectiveStart"
}

%ended (t.0: f32[8,4], t.1: f32[16,4]) -> f32[16,4] {
  %t.0 = f32[8,4]{1,0} parameter(0)
  %t.1 = f32[16,4]{1,0} parameter(1)
  %late = f32[16,4]{1,0} all-gather(%t.0), channel_id=9, replica_groups={{0,1},{2,3}}, dimensions={0}
  ROOT %result = f32[16,4]{1,0} custom-call(%late), custom_call_target="AsyncCollectiveDone"
}

%sliced (q.0: f32[8,4], q.1: s32[]) -> f32[1,4] {
  %q.0 = f32[8,4]{1,0} parameter(0)
  %q.1 = s32[] parameter(1)
  ROOT %row = f32[1,4]{1,0} dynamic-slice(%q.0, %q.1, %q.1), dynamic_slice_sizes={1,4}
}

ENTRY %main (x: f32[8,4], i: s32[]) -> f32[8,4] {
  %x = f32[8,4]{1,0:T(8,128)} parameter(0)
  %i = s32[]{:T(128)S(6)} parameter(1)
  %near = (bf16[8,4]{1,0:T(8,128)(2,1)S(1)}, bf16[8,4]{1,0}, u32[]{:S(2)}) copy-start(%half)
  %half = bf16[8,4]{1,0:T(8,128)(2,1)} convert(%x)
  %ready = bf16[8,4]{1,0:T(8,128)(2,1)S(1)} copy-done(%near)
  %sums = (bf16[8,4]{1,0}, /*index=1*/f32[]{:S(1)}) all-reduce(%half, %one), replica_groups={{0,1,2,3}}, n="a(b)"
  %one = f32[]{:T(128)S(1)} constant(1)
  %gathering = (f32[8,4]{1,0}, f32[16,4]{1,0}) all-gather-start(%x), replica_groups=mesh['a'=2,'b'=2] {'b'}
  %gathered = f32[16,4]{1,0} all-gather-done(%gathering)
  %scattered = f32[2,4]{1,0} fusion(%x, %i), kind=kCustom, calls=%part, x="all-reduce-scatter"
  %sliced.1 = f32[1,4]{1,0:T(1,128)S(1)} fusion(%x, %i), kind=kLoop, calls=%sliced
  %async-start = (f32[8,4]{1,0}, f32[16,4]{1,0}) fusion(%x), calls=%begun, output_to_operand_aliasing={{0}: (0, {})}
  %in = f32[8,4]{1,0} get-tuple-element(%async-start), index=0
  %to = f32[16,4]{1,0} get-tuple-element(%async-start), index=1
  %async-done = f32[16,4]{1,0} fusion(%in, %to), calls=%ended, output_to_operand_aliasing={{}: (1, {})}
  %start = (s32[]{:T(128)}, f32[8,4]{1,0}) tuple(%i, %x)
  %loop = (s32[]{:T(128)}, f32[8,4]{1,0}) while(%start), condition=%less, body=%turn
  ROOT %out = f32[8,4]{1,0} get-tuple-element(%loop), index=1
}
"""


def test_the_traffic_of_a_program_is_added_up():
    """Loops by their turns; a sum of which each keeps a part as a scattering; all arrays counted whole."""
    found = traffic(parse(PROGRAM), 4)
    assert {kind: (one.operations, one.bytes, one.sent) for kind, one in found.kinds.items()} == {
        "all-reduce": (1, 64 + 4, 2 * 3 / 4 * 68),
        "all-gather": (2, 2 * 256, 256),  # of pairs; one of them in two fused operations, its start and its end
        "reduce-scatter": (1, 128, 3 / 4 * 128),
        "collective-permute": (5, 5 * 128, 5 * 128),
    }
    assert found.unknown_loops == 0 and found.sent == 102 + 256 + 96 + 640
    endless = traffic(parse(PROGRAM.replace("direction=LT", "direction=NE")), 4)
    assert endless.unknown_loops == 1 and endless.kinds["collective-permute"].bytes == 128
    noted = PROGRAM.replace("body=%turn", 'body=%turn, backend_config={"known_trip_count":{"n":"7"}}')
    assert traffic(parse(noted), 4).kinds["collective-permute"].operations == 7
    groups = {"replica_groups={}": 4, "replica_groups={{0,2},{1,3}}": 2, "replica_groups=[2,4]<=[2,2,2]T(0,2,1)": 4}
    assert {text: group_size(text, 4) for text in groups} == groups
    # In main memory: the conversion reads 128 and writes 64, and 64 are copied; 64 are summed and written; 128 gathered
    # to 256, and again, where the end reads its 128 once more; 128 summed to 32; 16 of the slice; and in each of five
    # turns 128 read and written, two numbers compared.
    in_loop = 5 * (2 * 128 + 4 + 4 + 1)
    assert (
        moved_bytes(parse(PROGRAM)) == (128 + 64) + 64 + 2 * 64 + (128 + 256) + (256 + 128) + (128 + 32) + 16 + in_loop
    )


def test_limits_and_messages():
    """A square of chips has two links at its corners, a torus four; the largest of three times counts."""
    v5e, v5p = chips.CHIPS["v5e"], chips.CHIPS["v5p"]
    for name, links in (("v5e:1x1", 0), ("v5e:2x4", 2), ("v5e:8x16", 3), ("v5e:16x16", 4)):
        assert chips.Topology(name, *chips.parse(name), []).links_bandwidth == links * 50e9
    for name, links in (("v5p:2x2x1", 2), ("v5p:2x2x2", 3), ("v5p:4x4x4", 6)):
        assert chips.Topology(name, *chips.parse(name), []).links_bandwidth == links * 100e9
    four = chips.Topology("v5e:2x2", v5e, (2, 2), [])
    bounds = figures.limits(four, flops=197e9, moved=819e6, sent=400e6)
    assert bounds == pytest.approx((1e-3, 1e-3, 4e-3)) and (bounds.name, bounds.time) == ("links", bounds.links)
    assert figures.limits(chips.Topology("v5p:1x1x1", v5p, (1, 1, 1), []), 459e9, 0, 0).name == "compute"
    for name in ("v5x:2x2", "v5e", "v5e:2", "v5e:2x0", "v5e:axb", "2x2"):
        with pytest.raises(ValueError, match=rf"unknown topology '{name}'; known are .* v5e: 1x1, 2x2, .*16x16; v5p"):
            chips.parse(name)
    message = (
        "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory required for HLO "
        "temporaries (1.16T) exceeds available HBM (15.75G). HLO module: jit__lambda.\nSee https://openxla.org/error_1000"
    )
    assert figures.too_large(message) == (1.16 * 2**40, 15.75 * 2**30)
    older = "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. Used 17.08G of"
    assert figures.too_large(f"{older} 15.48G hbm. Exceeded hbm capacity by 1.60G.") == (17.08 * 2**30, 15.48 * 2**30)
    assert figures.too_large("INTERNAL: something else of 3.00G and 4.00G") is None
    row = {"what": "training", "net": "vgg16", "image": [224, 224, 3], "dtype": "bfloat16", "topology": "v5e:2x2"}
    row |= {"sharding": "data", "batch": 8192, "examples": 0, "needs": 100 * 2**30, "has": 15.75 * 2**30, "fits": 256}
    assert table.line(row) == (
        "vgg16, a step of 8,192, data, bfloat16, on v5e:2x2: needs 100 GiB on each chip, which has 15.8 GiB; a batch "
        "of 256 fits"
    )
    results = {"rows": [row], "packages": {"jax": "1"}, "command": "python", "device": "none", "python": "3"}
    assert "| vgg16 | v5e:2x2  |     4 | data     | 8,192 | needs 100.00 of 15.75 | 256 fit" in table.text(results)


@pytest.mark.slow
@needs_compiler
def test_a_step_that_is_compiled_for_tpus_needs_what_arithmetic_says():
    """On eight chips: with data all gradients are summed once, in float32; with fsdp an eighth of the state is held."""
    topology = chips.topology("v5e:2x4")
    wish = programs.Wish("lenet5", (32, 32, 1))
    rows = {}
    for sharding in SHARDINGS[:2]:
        made = programs.training_step(wish, 64, Devices(topology.devices, sharding))
        rows[sharding] = figures.row(made, topology, *figures.compile_program(made, topology))
    params = 4 * geometry.table(wish.make(), wish.image).params
    sums = rows["data"]["collectives"]
    # The loss and the number of examples that are right are summed too.
    assert set(sums) == {"all-reduce"} and sums["all-reduce"]["bytes"] == params + 8
    assert rows["data"]["bytes_sent"] == 2 * 7 / 8 * (params + 8)
    assert rows["data"]["loops_of_unknown_length"] == 0
    for row in rows.values():
        memory = row["memory"]
        # Parameters and momentum, step and key, 8 images and their labels; layouts in tiles pad small arrays.
        held = 2 * params + 8 * (32 * 32 + 4)
        assert row["utilisation"] <= 1 and memory["left"] > 15 * chips.GIB
        assert memory["aliased"] >= 0.9 * (memory["outputs"] - 4096)
        assert row["bytes_moved"] >= 8 * 32 * 32
        if row is rows["data"]:
            assert held < memory["arguments"] < 3 * held
    assert "all-gather" in rows["fsdp"]["collectives"]
    assert rows["fsdp"]["memory"]["arguments"] < rows["data"]["memory"]["arguments"]


@pytest.mark.slow
@needs_compiler
def test_the_command(tmp_path):
    """A small step, dense pass and tile are compiled for a TPU; a slice that cannot be had is refused in a line."""
    done = run_python("-m", "benchmarks.accelerators", "--smoke", f"--output={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("qa_net, ") == 3 and "## Tiles of a stream" in done.stdout
    assert not any(tmp_path.iterdir())
    wrong = run_python("-m", "benchmarks.accelerators", "--topology=v5e:3x3")
    assert wrong.returncode == 1 and wrong.stderr.count("\n") == 1
    assert wrong.stderr.startswith("error: topology 'v5e:3x3'") and "known are v4: 2x2x1" in wrong.stderr
