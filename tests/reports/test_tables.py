"""Documents and tables by value: the same rows as Markdown and on a terminal of any width."""

import pytest

from cnn.reports.html_cells import Cell
from cnn.reports.tables import Column, Document, Notes, Table, document_markdown, document_text, table_text

TABLE = Table(
    [
        Column("method"),
        Column("accuracy"),
        Column("interval", short="95 %", rank=1),
        Column("context", "what a window sees.", rank=3),
        Column("multiply-adds", rank=2),
    ],
    [
        ["centre crop", "50.00%", Cell("40.1% to 59.9%", 40.1), "crop", 12345],
        ["dense", "9.50%", Cell("5.0% to 17.0%", 5.0), "image", None],
    ],
    "Two ways.",
    lead=2,
)
DOCUMENT = Document("Scenes", ["Some words.", TABLE, Notes(["One remark.", "Another remark that is longer."])])


def test_markdown_has_every_column_and_what_it_means():
    assert document_markdown(DOCUMENT) == (
        "# Scenes\n\nSome words.\n\n"
        "| method      | accuracy | interval       | context | multiply-adds |\n"
        "| ----------- | -------: | -------------- | ------- | ------------- |\n"
        "| centre crop |   50.00% | 40.1% to 59.9% | crop    | 12,345        |\n"
        "| dense       |    9.50% | 5.0% to 17.0%  | image   | –             |\n"
        "\n- *context*: what a window sees.\n\n"
        "- One remark.\n- Another remark that is longer.\n"
    )


def test_a_wide_terminal_shows_all():
    assert table_text(TABLE, 80).splitlines() == [
        "method       accuracy        interval  context  multiply-adds",
        "-----------  --------  --------------  -------  -------------",
        "centre crop    50.00%  40.1% to 59.9%  crop            12,345",
        "dense           9.50%   5.0% to 17.0%  image                –",
        "",
        "- context: what a window sees.",
    ]


@pytest.mark.parametrize(
    "width, header, lost",
    [
        (61, "method       accuracy        interval  context  multiply-adds", []),
        (60, "method       accuracy            95 %  multiply-adds", ["context"]),
        (40, "method       accuracy            95 %", ["context", "multiply-adds"]),
        (30, "method       accuracy", ["interval", "context", "multiply-adds"]),
        (5, "method       accuracy", ["interval", "context", "multiply-adds"]),
    ],
)
def test_a_narrow_terminal_leaves_out_columns_and_names_them(width, header, lost):
    text = table_text(TABLE, width)
    assert text.splitlines()[0] == header
    said = " ".join(text.split("\n\n")[1].split()) if "\n\n" in text else ""
    assert ("not shown here" in said) == bool(lost)
    assert all(name in said for name in lost)


def test_no_line_is_wider_than_the_terminal():
    for width in (24, 40, 80):
        assert max(map(len, document_text(DOCUMENT, width).splitlines())) <= width
    assert "- Another remark that is\n  longer.\n" in document_text(DOCUMENT, 26)


def test_cells_that_stand_out_are_bold_in_markdown_alone():
    table = Table(["field", "value"], [["seed", Cell("3", strong=True)]])
    assert "| seed  | **3** |" in document_markdown(Document("t", [table]))
    assert table_text(table, 80).splitlines()[2] == "seed       3"


def test_a_row_of_another_length_is_an_error():
    with pytest.raises(ValueError, match="row 1 has 1 cells, there are 2 columns"):
        table_text(Table(["a", "b"], [[1, 2], [3]], "what"), 80)


def test_a_table_without_rows_has_its_headers():
    assert table_text(Table(["a", "bc"], []), 80) == "a  bc\n-  --\n"
