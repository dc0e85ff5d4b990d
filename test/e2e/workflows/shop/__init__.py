"""A workflow in a package: environments in one module, tasks in others."""
