"""Trains, evaluates or uses a net: `python -m cnn --config=FILE [--workdir=DIR] [--config.FIELD=VALUE ...]`.

A run writes its results, pictures and report.html to its workdir; started again with the same workdir, it continues
from its last checkpoint. A net or data set may be a function of your own (--config.net.name=my_nets.py:my_net,
--config.data.name=my_data.py:load); only code that you name is executed. An installed package has no configs by name:
without a config file of your own, a run starts from the defaults of all fields.
"""

from cnn.commands import run

if __name__ == "__main__":
    run.start()
