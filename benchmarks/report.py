"""stub"""

import json


def tables(results):
    return json.dumps(results["machine"])
