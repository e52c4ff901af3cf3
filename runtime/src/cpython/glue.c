#include "glue.h"
#include "pycore_code.h"
#include "pycore_import.h"
#include "pycore_global_objects.h"
#include "pycore_interp.h"
#include "pycore_obmalloc.h"
#include "pycore_pymem.h"
#include "pycore_pystate.h"
#include "pycore_runtime.h"
#include "pycore_tracemalloc.h"

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

static int immortalize_object(PyObject *object, void *unused);

static void
immortalize_referents(PyObject *object)
{
    if (PyCode_Check(object)) {
        PyCodeObject *code = (PyCodeObject *)object;
        PyObject *parts[] = {
            code->co_consts, code->co_names, code->co_exceptiontable,
            code->co_localsplusnames, code->co_localspluskinds,
            code->co_filename, code->co_name, code->co_qualname,
            code->co_linetable,
        };
        for (size_t i = 0; i < Py_ARRAY_LENGTH(parts); i++) {
            immortalize_object(parts[i], NULL);
        }
    }
    traverseproc traverse = Py_TYPE(object)->tp_traverse;
    if (traverse != NULL && PyObject_IS_GC(object)) {
        traverse(object, immortalize_object, NULL);
    }
}

static int
immortalize_object(PyObject *object, void *Py_UNUSED(unused))
{
    if (object == NULL || _Py_IsImmortal(object)) {
        return 0;
    }
    object->ob_refcnt = _Py_IMMORTAL_REFCNT;
    if (PyUnicode_CheckExact(object)
        && PyUnicode_CHECK_INTERNED(object) == SSTATE_INTERNED_MORTAL) {
        _PyASCIIObject_CAST(object)->state.interned = SSTATE_INTERNED_IMMORTAL;
    }
    /* Those that are tracked have their turn. */
    if (!PyObject_GC_IsTracked(object)) {
        immortalize_referents(object);
    }
    return 0;
}

void
cds_glue_immortalize(void)
{
    struct _gc_runtime_state *gc = &_PyInterpreterState_GET()->gc;
    for (int i = 0; i < NUM_GENERATIONS; i++) {
        PyGC_Head *head = &gc->generations[i].head;
        PyGC_Head *next = _PyGCHead_NEXT(head);
        for (; next != head; next = _PyGCHead_NEXT(next)) {
            PyObject *object = (PyObject *)(next + 1);
            immortalize_object(object, NULL);
            immortalize_referents(object);
        }
    }
}

void
cds_glue_use_up_free_memory(void)
{
    if (strcmp(_PyMem_GetCurrentAllocatorName(), "pymalloc") != 0) {
        return;
    }
    struct _obmalloc_state *state = _PyInterpreterState_GET()->obmalloc;
    // A list of pools that is empty has its head as its only element.
    poolp *used = state->pools.used;
    struct arena_object **usable = &state->mgmt.usable_arenas;
    const int largest = NB_SMALL_SIZE_CLASSES - 1;
    while (*usable != NULL && (*usable)->freepools != NULL) {
        PyObject_Malloc((largest + 1) << ALIGNMENT_SHIFT);
    }
    for (int i = 0; i <= largest; i++) {
        while (used[i + i]->nextpool != used[i + i]) {
            PyObject_Malloc((i + 1) << ALIGNMENT_SHIFT);
        }
    }
    if (*usable == NULL) {
        PyObject_Malloc((largest + 1) << ALIGNMENT_SHIFT);
    }
}

const size_t cds_glue_arena_bytes = ARENA_SIZE;

unsigned int
cds_glue_arena_count(void)
{
    return _PyInterpreterState_GET()->obmalloc->mgmt.maxarenas;
}

size_t
cds_glue_arena(unsigned int index)
{
    return _PyInterpreterState_GET()->obmalloc->mgmt.arenas[index].address;
}

void
cds_glue_set_type(PyObject *object, PyObject *type)
{
    PyTypeObject *old = Py_TYPE(object);
    Py_SET_TYPE(object, (PyTypeObject *)Py_NewRef(type));
    Py_DECREF(old);
}

void
cds_glue_forget_audit_hooks(void)
{
    Py_CLEAR(_PyInterpreterState_GET()->audit_hooks);
}

int
cds_glue_has_audit_hooks(void)
{
    return _PyRuntime.audit_hooks.head != NULL
        || _PyInterpreterState_GET()->audit_hooks != NULL;
}

int
cds_glue_traces_memory(void)
{
    return _PyTraceMalloc_IsTracing();
}

PyObject **
cds_glue_at_fork_handlers(int kind)
{
    PyInterpreterState *interp = _PyInterpreterState_GET();
    PyObject **const lists[] = {
        &interp->before_forkers,
        &interp->after_forkers_parent,
        &interp->after_forkers_child,
    };
    return lists[kind];
}
