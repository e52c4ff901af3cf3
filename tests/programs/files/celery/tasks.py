from celery import Celery

app = Celery("tasks", broker="memory://", backend="cache+memory://")
app.conf.broker_connection_retry_on_startup = False


@app.task
def add(x, y):
    return x + y
