"""A progress bar that writes down what it is told."""


class Recorded(list):
    """A `Progress`: the description and total of each bar, and then each number that it was advanced by."""

    def __call__(self, description, total):
        self.append((description, total))
        return self

    def __enter__(self):
        return self.append

    def __exit__(self, *_):
        return None
