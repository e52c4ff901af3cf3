import requests

request = requests.Request("GET", "https://example.org/path", params={"q": "ä b"}, headers={"A": "1"}).prepare()
print(request.method, request.url, dict(request.headers))
try:
    requests.get("http://127.0.0.1:9/", timeout=0.2)
except requests.ConnectionError as error:
    print(type(error).__name__)
