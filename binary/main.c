/* The static binary: CPython, every extension module and the code of every Python module in one file that loads nothing.
 *
 * tables.h and modules.S are written by build.py: the built-in modules, and the frozen ones with their code. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <limits.h>
#include <malloc.h>
#include <nss.h>
#include <openssl/crypto.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "tables.h"

/* OpenSSL asks these where certificate authorities are. Each distribution has its own place; what is taken from
 * libcrypto.a would be that of the one on which this was built. */
static const char *const BUNDLES[] = {
    "/etc/ssl/certs/ca-certificates.crt", /* Debian, Alpine, Arch, the container image */
    "/etc/pki/tls/certs/ca-bundle.crt",   /* Fedora, RHEL */
    "/etc/ssl/ca-bundle.pem",             /* SUSE */
    "/etc/ssl/cert.pem",                  /* others */
};

const char *X509_get_default_cert_file(void)
{
    for (size_t i = 0; i < sizeof BUNDLES / sizeof *BUNDLES; i++)
        if (access(BUNDLES[i], R_OK) == 0)
            return BUNDLES[i];
    return BUNDLES[0];
}

const char *X509_get_default_cert_dir(void) { return "/etc/ssl/certs"; }
const char *X509_get_default_cert_area(void) { return "/etc/ssl"; }
const char *X509_get_default_private_dir(void) { return "/etc/ssl/private"; }
const char *X509_get_default_cert_file_env(void) { return "SSL_CERT_FILE"; }
const char *X509_get_default_cert_dir_env(void) { return "SSL_CERT_DIR"; }

/* mallopt(param, value): what ctypes would look up in a dynamic executable. */
static PyObject *binary_mallopt(PyObject *self, PyObject *args)
{
    int param, value;
    (void)self;
    if (!PyArg_ParseTuple(args, "ii:mallopt", &param, &value))
        return NULL;
    return PyLong_FromLong(mallopt(param, value));
}

static PyMethodDef binary_methods[] = {
    {"mallopt", binary_mallopt, METH_VARARGS, "Set a parameter of the C library's allocator; 1: done, 0: refused."},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef binary_module = {
    PyModuleDef_HEAD_INIT, .m_name = "_only1mcp_binary", .m_size = 0, .m_methods = binary_methods};

static PyObject *init_binary(void) { return PyModuleDef_Init(&binary_module); }

/* Where this file is, for children that are this program again; without /proc, what the kernel was told. */
static const char *own_path(void)
{
    static char path[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    if (length > 0) {
        path[length] = 0;
        if (access(path, X_OK) == 0)
            return path;
    }
    const char *told = (const char *)getauxval(AT_EXECFN);
    return told != NULL && realpath(told, path) != NULL ? path : "";
}

static void fail(PyStatus status)
{
    if (PyStatus_Exception(status))
        Py_ExitStatusException(status);
}

int main(int argc, char **argv)
{
    /* A static C library would load the host's libraries for other sources of names, and they need not fit. */
    static const char *const DATABASES[][2] = {
        {"hosts", "files dns"}, {"passwd", "files"},   {"group", "files"},
        {"shadow", "files"},    {"services", "files"}, {"protocols", "files"},
    };
    for (size_t i = 0; i < sizeof DATABASES / sizeof *DATABASES; i++)
        __nss_configure_lookup(DATABASES[i][0], DATABASES[i][1]);
    /* The host's openssl.cnf may name modules to load, too. */
    OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);

    if (PyImport_AppendInittab("_only1mcp_binary", init_binary) < 0 || PyImport_ExtendInittab(BUILTIN) < 0) {
        fputs("only1mcp: out of memory\n", stderr);
        return 1;
    }
    PyImport_FrozenModules = FROZEN;

    PyPreConfig pre;
    PyPreConfig_InitIsolatedConfig(&pre);
    pre.utf8_mode = 1;
    fail(Py_PreInitialize(&pre));

    /* Isolated: no variable of the environment and no file of the host has a say in what is imported. */
    PyConfig config;
    PyConfig_InitIsolatedConfig(&config);
    config.install_signal_handlers = 1;
    config.site_import = 0;
    config.write_bytecode = 0;
    config.pathconfig_warnings = 0;
    config.module_search_paths_set = 1;
    fail(PyConfig_SetBytesArgv(&config, argc, argv));
    fail(PyConfig_SetBytesString(&config, &config.home, "/nonexistent"));
    fail(PyConfig_SetBytesString(&config, &config.program_name, "only1mcp"));
    fail(PyConfig_SetBytesString(&config, &config.executable, own_path()));
    fail(Py_InitializeFromConfig(&config));
    PyConfig_Clear(&config);

    /* It ends in sys.exit, which ends the process from within PyErr_Print. */
    int found = PyImport_ImportFrozenModule("__main__");
    if (found <= 0) {
        if (found < 0)
            PyErr_Print();
        else
            fputs("only1mcp: this binary has no program in it\n", stderr);
        Py_FinalizeEx();
        return 1;
    }
    return Py_FinalizeEx() < 0 ? 120 : 0;
}
