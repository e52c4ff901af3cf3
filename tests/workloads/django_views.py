"""A Django project in one file: migrations, a view, a form and templates through the test client."""

import django
from django.conf import settings

TEMPLATES = {
    "page.html": "{% for user in users %}<p>{{ user.username|title }}, {{ when|date:'j F Y' }}</p>{% endfor %}"
}
settings.configure(
    ROOT_URLCONF=__name__,
    SECRET_KEY="not one",
    ALLOWED_HOSTS=["*"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    INSTALLED_APPS=[
        "django.contrib.contenttypes",
        "django.contrib.auth",
        "django.contrib.sessions",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "OPTIONS": {"loaders": [("django.template.loaders.locmem.Loader", TEMPLATES)]},
        }
    ],
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    USE_TZ=True,
)
django.setup()

import datetime

from django import forms
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db.models import Count
from django.http import JsonResponse
from django.shortcuts import render
from django.test import Client
from django.urls import path, reverse


class Form(forms.Form):
    name = forms.CharField(max_length=5)
    age = forms.IntegerField(min_value=1)


def users(request):
    when = datetime.date(2026, 11, 21)
    return render(request, "page.html", {"users": User.objects.order_by("username"), "when": when})


def double(request, number):
    form = Form(request.POST)
    who = request.user.username if request.user.is_authenticated else None
    return JsonResponse(
        {"number": number * 2, "who": who, "valid": form.is_valid(), "errors": form.errors}
    )


urlpatterns = [path("users/", users), path("double/<int:number>/", double, name="double")]

call_command("migrate", verbosity=1, no_color=True)
for name in ("grace", "ada"):
    User.objects.create_user(name, f"{name}@example.org", "secret")
client = Client()
print(client.get("/users/").content.decode())
print(client.post(reverse("double", args=[21]), {"name": "too long", "age": 0}).json())
print(
    client.login(username="ada", password="wrong"), client.login(username="ada", password="secret")
)
print(client.post("/double/4/", {"name": "ada", "age": 36}).json())
print(
    client.get("/nowhere/").status_code,
    Client(enforce_csrf_checks=True).post("/double/1/").status_code,
)
print(
    User.objects.aggregate(Count("id")),
    User.objects.filter(email__contains="ada").values_list("username"),
)
