from behave import given, then


@given("{number:d} things")
def have(context, number):
    context.number = number


@then("there are {number:d}")
def count(context, number):
    assert context.number == number
