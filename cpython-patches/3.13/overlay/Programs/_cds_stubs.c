/* The archive runtime for the programs that build the interpreter.

   _freeze_module and _bootstrap_python make the frozen modules.  They have no
   use for an archive, and linking the Rust library into them would rebuild all
   frozen modules, and so the interpreter, whenever the library changes. */

#include "Python.h"
#include "pycore_cds.h"

int
_PyCDS_Initialize(PyInterpreterState *Py_UNUSED(interp))
{
    return 0;
}

void
_PyCDS_ImportingSite(void)
{
}

void
_PyCDS_SiteImported(void)
{
}

void
_PyCDS_Finalize(PyInterpreterState *Py_UNUSED(interp))
{
}

PyObject *
_PyCDS_FindInterned(PyObject *Py_UNUSED(s))
{
    return NULL;
}

PyObject *
_PyCDS_GetFrozenCode(PyObject *Py_UNUSED(name), const char *Py_UNUSED(data))
{
    return NULL;
}

PyObject *
_PyCDS_FindModule(PyObject *Py_UNUSED(module), PyObject *const *Py_UNUSED(args),
                  Py_ssize_t Py_UNUSED(nargs))
{
    Py_RETURN_NONE;
}

PyObject *
_PyCDS_GetCode(PyObject *Py_UNUSED(module), PyObject *const *Py_UNUSED(args),
               Py_ssize_t Py_UNUSED(nargs))
{
    Py_RETURN_NONE;
}

PyObject *
PyInit__cds_archive(void)
{
    PyErr_SetString(PyExc_ImportError,
                    "_cds_archive is not part of this program");
    return NULL;
}

int
_PyCDS_PostponesGC(PyInterpreterState *Py_UNUSED(interp))
{
    return 0;
}

PyModInitFunction
_PyCDS_FindLinkedInit(const char *Py_UNUSED(name), const char *Py_UNUSED(path))
{
    return NULL;
}

PyObject *
_PyCDS_FindPattern(PyObject *Py_UNUSED(module),
                   PyObject *const *Py_UNUSED(args),
                   Py_ssize_t Py_UNUSED(nargs))
{
    Py_RETURN_NONE;
}

int
_PyCDS_TakeImage(int *Py_UNUSED(exitcode))
{
    return 0;
}

void
_PyCDS_ModuleImported(PyInterpreterState *Py_UNUSED(interp),
                      PyObject *Py_UNUSED(module))
{
}

void
_PyCDS_RecursionExceeded(void)
{
}

int
_PyCDS_SetUpOrWait(PyObject *module, int (*set_up)(PyObject *module))
{
    return set_up(module);
}

int
_PyCDS_FinalizeRestored(PyInterpreterState *Py_UNUSED(interp))
{
    return 0;
}

int
_PyCDS_IsRestored(void)
{
    return 0;
}

void
_PyCDS_EndRestored(int Py_UNUSED(exitcode))
{
}

#ifdef Py_DEBUG
int
_PyCDS_IsImmortal(PyObject *Py_UNUSED(object))
{
    return 0;
}
#endif
