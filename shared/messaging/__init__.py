"""The message queue: the broker, the Celery app and the hints that it carries."""
