"""What moto does again for each request, it does once.

Python runs a module of this name when it starts, see moto.go. Each function here
gives what moto's own gives; a moto that has no such function is left as it is.
"""
import functools
import gc

import moto.backends
import moto.core.responses
from moto.ec2.models.tags import TagBackend

# Asked of the file system, with a look at each of 180 folders.
modules = frozenset(moto.backends.list_of_moto_modules())
moto.backends.list_of_moto_modules = lambda: modules

# A class keeps its methods.
moto.core.responses.method_names_from_class = functools.cache(moto.core.responses.method_names_from_class)

# Every thing of EC2 asks for its tags when it is compared with a filter and when it
# is shown, and each time the tags of all things are gone through.
describe_all = TagBackend.describe_tags


def describe_tags(self, filters=None):
    ids = (filters or {}).get("resource-id")
    if not ids or any(set(one) & set("*?[") for one in ids):
        return describe_all(self, filters)
    few = TagBackend()
    few.tags = {one: self.tags[one] for one in ids if one in self.tags}
    return describe_all(few, filters)


TagBackend.describe_tags = describe_tags

# The classes of a hundred services are gone through for garbage, which they never are.
gc.set_threshold(100_000, 20, 50)
