from flask import Flask, jsonify, request

app = Flask(__name__)


@app.route("/")
def index():
    return "hello"


@app.get("/items/<int:number>")
def item(number):
    return jsonify(number=number, method=request.method)
