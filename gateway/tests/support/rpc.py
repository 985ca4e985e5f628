"""One call of the gateway's KMS endpoint by Alibaba Cloud's SDK of the RPC protocol, for the scripts beside this file."""

import json

from aliyunsdkcore.request import CommonRequest


def call(client, domain, action, **parameters):
    request = CommonRequest(domain=domain, version="2016-01-20", action_name=action)
    request.set_method("POST")
    request.set_protocol_type("http")
    for name, value in parameters.items():
        request.add_query_param(name, value)
    return json.loads(client.do_action_with_exception(request))
