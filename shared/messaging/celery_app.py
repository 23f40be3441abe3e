"""The Celery app of this process's settings, for Celery's own command line and Flower."""

from shared.messaging.queue import make_celery
from shared.settings import get_settings

app = make_celery(get_settings())
