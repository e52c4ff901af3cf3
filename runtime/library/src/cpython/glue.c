#include "glue.h"
#include "pycore_code.h"
#include "pycore_frame.h"
#include "pycore_gc.h"
#include "pycore_import.h"
#include "pycore_initconfig.h"
#include "pycore_global_objects.h"
#include "pycore_interp.h"
#include "pycore_moduleobject.h"
#include "pycore_opcode_utils.h"
#include "pycore_obmalloc.h"
#include "pycore_pymem.h"
#include "pycore_pystate.h"
#include "pycore_runtime.h"
#include "pycore_signal.h"
#include "pycore_tracemalloc.h"
/* These headers have functions that do not use a parameter. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
#include "pycore_dict.h"
#include "pycore_weakref.h"
#pragma GCC diagnostic pop

#include <dlfcn.h>

const Py_ssize_t cds_glue_immortal_refcount = _Py_IMMORTAL_REFCNT;
const void *const cds_glue_anchor = &_PyRuntime;
const unsigned int cds_glue_not_interned = SSTATE_NOT_INTERNED;
const unsigned int cds_glue_interned_static = SSTATE_INTERNED_IMMORTAL_STATIC;

const struct cds_glue_places cds_glue_places = {
    .main_interpreter = offsetof(_PyRuntimeState, interpreters.main),
    .first_thread = offsetof(PyInterpreterState, threads.head),
    .next_thread = offsetof(PyThreadState, next),
    .thread_id = offsetof(PyThreadState, native_thread_id),
    .frame = offsetof(PyThreadState, current_frame),
    .previous_frame = offsetof(_PyInterpreterFrame, previous),
    .executable = offsetof(_PyInterpreterFrame, f_executable),
    .file_name = offsetof(PyCodeObject, co_filename),
    .name = offsetof(PyCodeObject, co_name),
};

_PyInterpreterFrame *
cds_glue_frame_below(_PyInterpreterFrame *frame)
{
    return frame == NULL ? PyThreadState_GET()->current_frame : frame->previous;
}

PyCodeObject *
cds_glue_stack_frame_code(_PyInterpreterFrame *frame)
{
    return frame->owner == FRAME_OWNED_BY_THREAD ? _PyFrame_GetCode(frame) : NULL;
}

PyCodeObject *
cds_glue_running_generator_code(_PyInterpreterFrame *frame)
{
    int is_untold = frame->owner == FRAME_OWNED_BY_GENERATOR && frame->stacktop < 0;
    return is_untold ? _PyFrame_GetCode(frame) : NULL;
}

PyObject **
cds_glue_frame_locals(_PyInterpreterFrame *frame)
{
    return frame->localsplus;
}

PyObject *
cds_glue_frame_namespace(_PyInterpreterFrame *frame)
{
    return frame->f_locals;
}

PyObject *
cds_glue_frame_function(_PyInterpreterFrame *frame)
{
    return frame->f_funcobj;
}

int
cds_glue_local_count(PyCodeObject *code)
{
    return code->co_nlocalsplus;
}

int
cds_glue_stack_size(PyCodeObject *code)
{
    return code->co_stacksize;
}

int
cds_glue_has_heap_type(PyObject *object)
{
    return PyType_HasFeature(Py_TYPE(object), Py_TPFLAGS_HEAPTYPE);
}

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

PyGC_Head *
cds_glue_generation(int index)
{
    struct _gc_runtime_state *gc = &_PyInterpreterState_GET()->gc;
    return index < NUM_GENERATIONS ? &gc->generations[index].head
                                   : &gc->permanent_generation.head;
}

void
cds_glue_traverse(PyObject *object, visitproc visit, void *argument)
{
    traverseproc traverse = Py_TYPE(object)->tp_traverse;
    if (traverse != NULL && PyObject_IS_GC(object)) {
        traverse(object, visit, argument);
    }
}

void
cds_glue_traverse_code(PyCodeObject *code, visitproc visit, void *argument)
{
    PyObject *parts[] = {
        code->co_consts, code->co_names, code->co_exceptiontable,
        code->co_localsplusnames, code->co_localspluskinds,
        code->co_filename, code->co_name, code->co_qualname,
        code->co_linetable,
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(parts); i++) {
        visit(parts[i], argument);
    }
}

/* Whether objects with this tp_traverse keep their references only in their own
   memory and in the tables that cds_glue_pieces() visits. */
static int
is_known_traverse(traverseproc traverse)
{
    PyTypeObject *const known[] = {
        &PyCFunction_Type, &PyCell_Type, &PyClassMethod_Type, &PyDict_Type,
        &PyDictProxy_Type, &PyFunction_Type, &PyGetSetDescr_Type, &PyList_Type,
        &PyMemberDescr_Type, &PyMethodDescr_Type, &PyMethod_Type, &PyProperty_Type,
        &PySet_Type, &PyStaticMethod_Type, &PyTuple_Type, &PyType_Type,
        &PyWrapperDescr_Type, &Py_GenericAliasType, &_PyWeakref_RefType,
        (PyTypeObject *)PyExc_BaseException,
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(known); i++) {
        if (known[i]->tp_traverse == traverse) {
            return 1;
        }
    }
    return traverse == NULL;
}

int
cds_glue_pieces(PyObject *object, PyTypeObject *python_class,
                cds_glue_piece visit, void *argument)
{
    PyTypeObject *type = Py_TYPE(object), *base = type;
    // The items of a tuple cannot be set while another object refers to the tuple.
    if (!PyObject_IS_GC(object) || type == &PyTuple_Type) {
        return 1;
    }
    while (base->tp_traverse == python_class->tp_traverse) {
        base = base->tp_base;
    }
    if (!is_known_traverse(base->tp_traverse)) {
        return 0;
    }
    size_t before = _PyType_PreHeaderSize(type);
    size_t bytes = _PyObject_VAR_SIZE(type, type->tp_itemsize ? Py_SIZE(object) : 0);
    if (type->tp_flags & Py_TPFLAGS_INLINE_VALUES) {
        bytes += _PyInlineValuesSize(type);
    }
    visit((char *)object - before, before + bytes, argument);
    if (PyDict_Check(object)) {
        PyDictObject *dict = (PyDictObject *)object;
        visit(dict->ma_keys, _PyDict_KeysSize(dict->ma_keys), argument);
        if (dict->ma_values != NULL) {
            visit(dict->ma_values,
                  offsetof(PyDictValues, values)
                      + dict->ma_values->capacity * sizeof(PyObject *),
                  argument);
        }
    }
    else if (PyList_Check(object)) {
        PyListObject *list = (PyListObject *)object;
        visit(list->ob_item, list->allocated * sizeof(PyObject *), argument);
    }
    else if (PyAnySet_Check(object)) {
        PySetObject *set = (PySetObject *)object;
        visit(set->table, (set->mask + 1) * sizeof(setentry), argument);
    }
    return 1;
}

int
cds_glue_clear(PyObject *object)
{
    inquiry clear = Py_TYPE(object)->tp_clear;
    return clear != NULL && PyObject_IS_GC(object) ? clear(object) : 0;
}

int
cds_glue_is_gc(PyObject *object)
{
    return PyObject_IS_GC(object);
}

int
cds_glue_is_tracked(PyObject *object)
{
    return PyObject_IS_GC(object) && _PyObject_GC_IS_TRACKED(object);
}

int
cds_glue_is_finalized(PyObject *object)
{
    return PyObject_IS_GC(object) && _PyGC_FINALIZED(object);
}

Py_ssize_t
cds_glue_refcount(PyObject *object)
{
    return Py_REFCNT(object);
}

int
cds_glue_is_immortal(PyObject *object)
{
    return _Py_IsImmortal(object);
}

void
cds_glue_make_immortal(PyObject *object)
{
    object->ob_refcnt = _Py_IMMORTAL_REFCNT;
    if (PyUnicode_CheckExact(object)
        && PyUnicode_CHECK_INTERNED(object) == SSTATE_INTERNED_MORTAL) {
        _PyASCIIObject_CAST(object)->state.interned = SSTATE_INTERNED_IMMORTAL;
    }
}

int
cds_glue_is_module(PyObject *object)
{
    return PyModule_Check(object);
}

int
cds_glue_is_module_or_type(PyObject *object)
{
    return PyModule_Check(object) || PyType_Check(object);
}

PyObject *
cds_glue_namespace(PyObject *object)
{
    return PyModule_Check(object) ? PyModule_GetDict(object)
         : PyType_Check(object)   ? ((PyTypeObject *)object)->tp_dict
                                  : NULL;
}

int
cds_glue_is_dict(PyObject *object)
{
    return PyDict_CheckExact(object);
}

int
cds_glue_is_plain_container(PyObject *object)
{
    return !PyModule_Check(object) && !PyType_Check(object)
        && !PyFunction_Check(object) && !PyFrame_Check(object);
}

int
cds_glue_is_frame(PyObject *object)
{
    return PyFrame_Check(object);
}

int
cds_glue_is_generator(PyObject *object)
{
    return PyGen_CheckExact(object) || PyCoro_CheckExact(object)
        || PyAsyncGen_CheckExact(object);
}

int
cds_glue_generator_is_finished(PyObject *object)
{
    return FRAME_STATE_FINISHED(((PyGenObject *)object)->gi_frame_state);
}

int
cds_glue_generator_closes_silently(PyObject *object)
{
    PyGenObject *generator = (PyGenObject *)object;
    if (FRAME_STATE_FINISHED(generator->gi_frame_state)) {
        return 1;
    }
    if (!PyGen_CheckExact(object)) {
        return 0;
    }
    if (generator->gi_frame_state != FRAME_SUSPENDED) {
        return generator->gi_frame_state == FRAME_CREATED;
    }
    _Py_CODEUNIT *next = ((_PyInterpreterFrame *)generator->gi_iframe)->instr_ptr;
    return (next->op.code == RESUME || next->op.code == RESUME_CHECK)
        && (next->op.arg & RESUME_OPARG_DEPTH1_MASK);
}

int
cds_glue_is_weak_reference(PyObject *object)
{
    return PyWeakref_Check(object);
}

void
cds_glue_clear_weak_reference(PyWeakReference *reference)
{
    _PyWeakref_ClearRef(reference);
}

PyWeakReference *
cds_glue_weak_references(PyObject *object)
{
    return _PyType_SUPPORTS_WEAKREFS(Py_TYPE(object))
        ? (PyWeakReference *)*_PyObject_GET_WEAKREFS_LISTPTR(object) : NULL;
}

const char *
cds_glue_c_function_name(PyObject *object)
{
    return PyCFunction_Check(object)
        ? ((PyCFunctionObject *)object)->m_ml->ml_name : NULL;
}

PyObject *
cds_glue_function_module(PyObject *object)
{
    return PyFunction_Check(object) ? PyFunction_GET_MODULE(object) : NULL;
}

int
cds_glue_has_finalizer(PyTypeObject *type)
{
    return type->tp_finalize != NULL || type->tp_del != NULL;
}

int
cds_glue_may_vary(PyTypeObject *type)
{
    return type->tp_finalize != NULL || type->tp_del != NULL
        || type == &PyCapsule_Type;
}

const void *
cds_glue_finalizer(PyTypeObject *type)
{
    return (const void *)type->tp_finalize;
}

const void *
cds_glue_dealloc(PyTypeObject *type)
{
    return (const void *)type->tp_dealloc;
}

PyTypeObject *
cds_glue_base(PyTypeObject *type)
{
    return type->tp_base;
}

const char *
cds_glue_name(PyTypeObject *type)
{
    return type->tp_name;
}

int
cds_glue_has_capsule_destructor(PyObject *object)
{
    /* The destructors of these capsules of the standard library only free
       memory, and release types. */
    static const char *const freeing[] = {
        "_socket.CAPI", "pyexpat.expat_CAPI", "_curses._C_API", "_ctypes pymem"};
    if (!PyCapsule_CheckExact(object)
        || PyCapsule_GetDestructor(object) == NULL) {
        return 0;
    }
    const char *name = PyCapsule_GetName(object);
    for (size_t i = 0; name != NULL && i < Py_ARRAY_LENGTH(freeing); i++) {
        if (strcmp(name, freeing[i]) == 0) {
            return 0;
        }
    }
    return 1;
}

PyObject *
cds_glue_python_finalizer(PyTypeObject *type)
{
    return type->tp_del == NULL ? _PyType_Lookup(type, &_Py_ID(__del__)) : NULL;
}

PyObject *
cds_glue_type_attribute(PyTypeObject *type, const char *name)
{
    PyObject *key = PyUnicode_FromString(name);
    if (key == NULL) {
        PyErr_Clear();
        return NULL;
    }
    PyObject *found = _PyType_Lookup(type, key);
    Py_DECREF(key);
    return found;
}

PyObject *
cds_glue_method_function(PyObject *object)
{
    return PyMethod_Check(object) ? PyMethod_GET_FUNCTION(object) : NULL;
}

PyObject *
cds_glue_method_object(PyObject *object)
{
    return PyMethod_Check(object) ? PyMethod_GET_SELF(object) : NULL;
}

PyObject *
cds_glue_plain_code(PyObject *object, Py_ssize_t arguments)
{
    if (!PyFunction_Check(object)) {
        return NULL;
    }
    PyFunctionObject *function = (PyFunctionObject *)object;
    PyCodeObject *code = (PyCodeObject *)function->func_code;
    Py_ssize_t optional = function->func_defaults == NULL
        ? 0 : PyTuple_GET_SIZE(function->func_defaults);
    if (function->vectorcall != _PyFunction_Vectorcall
        || code->_co_monitoring != NULL
        || code->co_kwonlyargcount != 0
        || arguments > code->co_argcount
        || arguments < code->co_argcount - optional) {
        return NULL;
    }
    return (PyObject *)code;
}

int
cds_glue_sees_calls(void)
{
    PyInterpreterState *interp = _PyInterpreterState_GET();
    if (interp->eval_frame != NULL || interp->sys_profiling_threads != 0
        || interp->sys_tracing_threads != 0) {
        return 1;
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(interp->monitors.tools); i++) {
        if (interp->monitors.tools[i] != 0) {
            return 1;
        }
    }
    return 0;
}

int
cds_glue_has_attributes_in_dict(PyObject *object, PyObject *name)
{
    PyTypeObject *type = Py_TYPE(object);
    if (type->tp_setattro != PyObject_GenericSetAttr
        || !(type->tp_flags & Py_TPFLAGS_MANAGED_DICT)) {
        return 0;
    }
    PyObject *descriptor = _PyType_Lookup(type, name);
    PyDictObject *dict = _PyObject_GetManagedDict(object);
    // Keys that are not strings can have a comparison that runs code.
    return (descriptor == NULL || Py_TYPE(descriptor)->tp_descr_set == NULL)
        && (dict == NULL || DK_IS_UNICODE(dict->ma_keys));
}

int
cds_glue_is_in_dict(PyObject *object, PyObject *name)
{
    PyObject *value;
    if ((Py_TYPE(object)->tp_flags & Py_TPFLAGS_INLINE_VALUES)
        && _PyObject_TryGetInstanceAttribute(object, name, &value)) {
        int found = value != NULL;
        Py_XDECREF(value);
        return found;
    }
    PyDictObject *dict = _PyObject_GetManagedDict(object);
    return dict != NULL && PyDict_GetItemWithError((PyObject *)dict, name) != NULL;
}

int
cds_glue_ends_alike(PyTypeObject *first, PyTypeObject *second)
{
    return first->tp_finalize == second->tp_finalize
        && first->tp_repr == second->tp_repr;
}

void
cds_glue_clear_namespace(PyObject *dict)
{
    _PyModule_ClearDict(dict);
}

PyObject *
cds_glue_modules(void)
{
    return _PyImport_GetModules(_PyInterpreterState_GET());
}

PyObject *
cds_glue_sys_namespace(void)
{
    return _PyInterpreterState_GET()->sysdict;
}

PyObject *
cds_glue_builtins(void)
{
    return _PyInterpreterState_GET()->builtins;
}

PyObject *
cds_glue_first_builtins(void)
{
    return _PyInterpreterState_GET()->builtins_copy;
}

Py_ssize_t
cds_glue_collect(void)
{
    PyThreadState *thread = _PyThreadState_GET();
    struct gc_generation_stats *stats =
        &thread->interp->gc.generation_stats[NUM_GENERATIONS - 1];
    Py_ssize_t before = stats->collected + stats->uncollectable;
    _PyGC_CollectNoFail(thread);
    return stats->collected + stats->uncollectable - before;
}

void
cds_glue_forget_collection_callbacks(void)
{
    PyObject *callbacks = _PyInterpreterState_GET()->gc.callbacks;
    PyList_SetSlice(callbacks, 0, PyList_GET_SIZE(callbacks), NULL);
}

PyObject *
cds_glue_signal_handler(int signal)
{
    return signal < Py_NSIG ? _PyRuntime.signals.handlers[signal].func : NULL;
}

int
cds_glue_take_kept_by_states(int index, PyObject **taken)
{
    PyThreadState *thread = _PyThreadState_GET();
    PyInterpreterState *interp = thread->interp;
    PyObject **callables = &interp->monitoring_callables[0][0];
    const int n_callables = PY_MONITORING_TOOL_IDS * _PY_MONITORING_EVENTS;
    PyObject **of_thread[] = {
        &thread->threading_local_key,
        &thread->threading_local_sentinel,
        &((_PyThreadStateImpl *)thread)->asyncio_running_loop,
        &thread->dict,
        &thread->c_profileobj,
        &thread->c_traceobj,
        &thread->async_gen_firstiter,
        &thread->async_gen_finalizer,
        &thread->context,
        &interp->audit_hooks,
    };
    PyObject **of_interpreter[] = {
        &interp->codecs.search_path,
        &interp->codecs.search_cache,
        &interp->codecs.error_registry,
        &interp->dict,
        &interp->before_forkers,
        &interp->after_forkers_parent,
        &interp->after_forkers_child,
        &interp->warnings.filters,
        &interp->warnings.once_registry,
    };
    const int n_of_thread = Py_ARRAY_LENGTH(of_thread);
    const int n_of_interpreter = Py_ARRAY_LENGTH(of_interpreter);
    PyObject **place;
    if (index < n_of_thread) {
        place = of_thread[index];
    }
    else if (index < n_of_thread + n_callables) {
        place = &callables[index - n_of_thread];
    }
    else if (index < n_of_thread + n_callables + n_of_interpreter) {
        place = of_interpreter[index - n_of_thread - n_callables];
    }
    else {
        return 0;
    }
    if (place == &thread->c_profileobj && thread->c_profilefunc != NULL) {
        interp->sys_profiling_threads--;
        thread->c_profilefunc = NULL;
    }
    if (place == &thread->c_traceobj && thread->c_tracefunc != NULL) {
        interp->sys_tracing_threads--;
        thread->c_tracefunc = NULL;
    }
    *taken = *place;
    *place = NULL;
    // Code that still runs may use the lists and dicts, so they become empty.
    if (*taken != NULL && PyList_CheckExact(*taken)) {
        *place = PyList_New(0);
    }
    else if (*taken != NULL && PyDict_CheckExact(*taken)) {
        *place = PyDict_New();
    }
    return 1;
}

void
cds_glue_use_up_free_memory(void)
{
    if (strcmp(_PyMem_GetCurrentAllocatorName(), "pymalloc") != 0) {
        return;
    }
    struct _obmalloc_state *state = _PyInterpreterState_GET()->obmalloc;
    // In an empty list of pools, the head is the only element.
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

void
cds_glue_lasting_blocks(PyObject *object, cds_glue_block visit, void *argument)
{
    visit((char *)object - _PyType_PreHeaderSize(Py_TYPE(object)), argument);
    if (PyType_Check(object)
        && PyType_HasFeature((PyTypeObject *)object, Py_TPFLAGS_HEAPTYPE)) {
        // These are freed by type_dealloc() in Objects/typeobject.c.
        PyHeapTypeObject *type = (PyHeapTypeObject *)object;
        visit(type->ht_type.tp_doc, argument);
        visit(type->ht_cached_keys, argument);
        visit(type->_ht_tpname, argument);
    }
    else if (PyModule_Check(object)) {
        visit(((PyModuleObject *)object)->md_state, argument);
    }
}

int
cds_glue_set_original_arguments(const PyWideStringList *arguments)
{
    PyMemAllocatorEx allocator;
    _PyMem_SetDefaultAllocator(PYMEM_DOMAIN_RAW, &allocator);
    int result = _PyWideStringList_Copy(&_PyRuntime.orig_argv, arguments);
    PyMem_SetAllocator(PYMEM_DOMAIN_RAW, &allocator);
    return result;
}

void
cds_glue_clear_arguments(PyWideStringList *list)
{
    _PyWideStringList_Clear(list);
}

struct gc_generation_stats *
cds_glue_collections(void)
{
    return _PyInterpreterState_GET()->gc.generation_stats;
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

PyObject *
cds_glue_swap_audit_hooks(PyObject *hooks)
{
    PyInterpreterState *interp = _PyInterpreterState_GET();
    PyObject *former = interp->audit_hooks;
    if (hooks != NULL && _PyObject_GC_IS_TRACKED(hooks)) {
        PyObject_GC_UnTrack(hooks);
    }
    interp->audit_hooks = hooks;
    return former;
}

int
cds_glue_has_native_audit_hooks(void)
{
    return _PyRuntime.audit_hooks.head != NULL;
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
