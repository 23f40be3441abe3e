"""``python -m dispatcher``: the dispatcher with the settings of this machine."""

from dispatcher.process import run_dispatcher
from shared.process import run_main
from shared.settings import get_settings

if __name__ == "__main__":
    run_main(lambda: run_dispatcher(get_settings()))
