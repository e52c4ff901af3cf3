from invoke import task


@task
def clean(c):
    c.run("echo cleaned")


@task(clean)
def build(c, docs=False):
    c.run("echo built")
