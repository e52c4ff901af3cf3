#include "glue.h"
#include "pycore_code.h"
#include "pycore_interp.h"
#include "pycore_pystate.h"
#include "pycore_runtime.h"

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
