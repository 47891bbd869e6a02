/* Compiles only where the Python headers at hand are those of a Python on the target.

   What is compared are the sizes that the headers were configured with: with others, objects would have another layout
   than in the interpreter that loads the module. */
#include <Python.h>
#include <sys/types.h>
#include <time.h>
#include <wchar.h>

#define FITS(type, size) _Static_assert(sizeof(type) == (size), "sizeof(" #type ") is another in these headers")

FITS(short, SIZEOF_SHORT);
FITS(int, SIZEOF_INT);
FITS(long, SIZEOF_LONG);
FITS(long long, SIZEOF_LONG_LONG);
FITS(void *, SIZEOF_VOID_P);
FITS(size_t, SIZEOF_SIZE_T);
FITS(wchar_t, SIZEOF_WCHAR_T);
FITS(time_t, SIZEOF_TIME_T);
FITS(double, SIZEOF_DOUBLE);
FITS(Py_ssize_t, SIZEOF_VOID_P);
#ifdef SIZEOF_OFF_T
FITS(off_t, SIZEOF_OFF_T);
#endif
#if defined(SIZEOF_PID_T) && !defined(_WIN32) /* MinGW has another than Python, and no function of the API has one */
FITS(pid_t, SIZEOF_PID_T);
#endif
#ifdef ALIGNOF_LONG
_Static_assert(_Alignof(long) == ALIGNOF_LONG, "long is aligned otherwise in these headers");
#endif
#ifdef ALIGNOF_SIZE_T
_Static_assert(_Alignof(size_t) == ALIGNOF_SIZE_T, "size_t is aligned otherwise in these headers");
#endif
#if defined(__BYTE_ORDER__) && defined(WORDS_BIGENDIAN) && WORDS_BIGENDIAN != (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__)
#error "these headers are of the other byte order"
#endif
#ifdef Py_DEBUG
#error "these headers are of a debug build of Python"
#endif
#ifdef Py_GIL_DISABLED
#error "these headers are of a free-threaded Python"
#endif
