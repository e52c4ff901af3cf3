import nox


@nox.session(venv_backend="none")
def lint(session):
    session.run("echo", "linted", external=True)
