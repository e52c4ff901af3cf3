import tensorflow


@tensorflow.function
def collatz(number):
    steps = tensorflow.constant(0)
    while number != 1:
        if number % 2 == 0:
            number //= 2
        else:
            number = 3 * number + 1
        steps += 1
    return steps


@tensorflow.function(jit_compile=True)
def polynomial(x):
    return x * x + 1


print(
    tensorflow.matmul(
        tensorflow.constant([[1.0, 2.0]]), tensorflow.constant([[3.0], [4.0]])
    ).numpy()
)
print(collatz(tensorflow.constant(27)).numpy(), polynomial(tensorflow.constant(3.0)).numpy())
x = tensorflow.Variable(2.0)
with tensorflow.GradientTape() as tape:
    y = polynomial(x) * x
print(tape.gradient(y, x).numpy())
tensorflow.random.set_seed(1)
layer = tensorflow.keras.layers.Dense(3, kernel_initializer="ones")
print(layer(tensorflow.ones((2, 4))).numpy(), tensorflow.config.list_physical_devices())
data = tensorflow.data.Dataset.range(5).map(lambda n: n * n, num_parallel_calls=2).batch(2)
print([batch.numpy().tolist() for batch in data])
