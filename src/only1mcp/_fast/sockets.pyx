"""The compiled twin of `sockets_reference`: asks the system about a socket, too quickly to let the lock go for it."""

cdef extern from *:
    """
    #ifdef _WIN32
    #include <winsock2.h>
    #define ONLY1MCP_POLL(fd) poll_one((SOCKET)(fd))
    static int poll_one(SOCKET fd) {
        WSAPOLLFD asked = {fd, POLLRDNORM, 0};
        return WSAPoll(&asked, 1, 0);
    }
    #else
    #include <poll.h>
    #define ONLY1MCP_POLL(fd) poll_one((int)(fd))
    static int poll_one(int fd) {
        struct pollfd asked = {fd, POLLIN, 0};
        return poll(&asked, 1, 0);
    }
    #endif
    """
    int poll_now "ONLY1MCP_POLL"(Py_ssize_t fd) nogil


def readable(Py_ssize_t fd):
    """See `sockets_reference.readable`."""
    return poll_now(fd) != 0
