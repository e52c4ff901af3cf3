def task_hello():
    return {"actions": ["echo hello > %(targets)s"], "targets": ["hello.txt"], "verbosity": 2}
