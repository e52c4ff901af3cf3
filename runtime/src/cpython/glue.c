#include "glue.h"
#include "pycore_code.h"
#include "pycore_import.h"
#include "pycore_global_objects.h"
#include "pycore_interp.h"
#include "pycore_pystate.h"
#include "pycore_runtime.h"

#include <dlfcn.h>

const Py_ssize_t cds_glue_immortal_refcount = _Py_IMMORTAL_REFCNT;
const void *const cds_glue_anchor = &_PyRuntime;
const unsigned int cds_glue_not_interned = SSTATE_NOT_INTERNED;
const unsigned int cds_glue_interned_static = SSTATE_INTERNED_IMMORTAL_STATIC;

const PyConfig *
cds_glue_config(PyInterpreterState *interp)
{
    return _PyInterpreterState_GetConfig(interp);
}

uint32_t *
cds_glue_next_code_version(PyInterpreterState *interp)
{
    return &interp->func_state.next_version;
}

int
cds_glue_is_main_interpreter(void)
{
    return _Py_IsMainInterpreter(_PyInterpreterState_GET());
}

int
cds_glue_has_code_watchers(void)
{
    return _PyInterpreterState_GET()->active_code_watchers != 0;
}

Py_ssize_t
cds_glue_bytecode_bytes(PyCodeObject *code)
{
    return _PyCode_NBYTES(code);
}

const void *
cds_glue_bytecode(PyCodeObject *code)
{
    return _PyCode_CODE(code);
}

unsigned int
cds_glue_interned_state(PyObject *string)
{
    return PyUnicode_CHECK_INTERNED(string);
}

const void *
cds_glue_characters(PyObject *string)
{
    return PyUnicode_DATA(string);
}

const char *
cds_glue_type_name(PyObject *object)
{
    return Py_TYPE(object)->tp_name;
}

PyObject *
cds_glue_find_interned(PyObject *string)
{
    PyObject *dict = _Py_INTERP_CACHED_OBJECT(_PyInterpreterState_GET(),
                                              interned_strings);
    return PyDict_GetItem(dict, string);
}

PyObject *
cds_glue_function_code(PyObject *object)
{
    return PyFunction_Check(object) ? PyFunction_GET_CODE(object) : NULL;
}

int
cds_glue_has_default_dlopen_flags(void)
{
    return _PyImport_GetDLOpenFlags(_PyInterpreterState_GET()) == RTLD_NOW;
}

int
cds_glue_gc_threshold(PyInterpreterState *interp)
{
    return interp->gc.generations[0].threshold;
}

int
cds_glue_gc_is_observed(PyInterpreterState *interp)
{
    PyObject *callbacks = interp->gc.callbacks;
    return interp->gc.debug != 0
        || (callbacks != NULL && PyList_GET_SIZE(callbacks) != 0);
}
