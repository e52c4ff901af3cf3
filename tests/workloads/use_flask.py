import flask

app = flask.Flask("app")


@app.route("/<name>")
def hello(name):
    return flask.render_template_string("Hello {{ name }}", name=name)


response = app.test_client().get("/world")
print(response.status, response.text)
