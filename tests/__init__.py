import plugins  # noqa: F401  before any test module imports fastreid or torchvision
