cpdef tuple request_bytes(bytes method, bytes target, list headers, Py_ssize_t length, bytes body)
cpdef maybe_prepare_post(bytes target, list headers)
cpdef bytes response_bytes(int status, list headers, Py_ssize_t length, bint chunked, bint close, bytes body)
