import helper

if helper.double(2) == 5:
    print("never")
print(helper.double(3))
