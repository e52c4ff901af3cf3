import json


def application(environ, start_response):
    body = json.dumps({"path": environ["PATH_INFO"]}).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    start_response("200 OK", headers)
    return [body]
