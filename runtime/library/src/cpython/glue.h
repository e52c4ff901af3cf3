/* The interface of CPython for the Rust side: its headers, and functions for
   what CPython only offers as macros or inline functions. The functions read or
   write CPython's state; decisions are made in Rust. */

#include "Python.h"
#include "marshal.h"
#include "opcode_ids.h"
#include "pycore_gc.h"
#include "pycore_cds.h"
#include "pycore_importdl.h"

/* Reference count of an immortal object (Include/object.h). */
extern const Py_ssize_t cds_glue_immortal_refcount;

/* Address of a static object of the interpreter (_PyRuntime). */
extern const void *const cds_glue_anchor;

/* The configuration of an interpreter. */
const PyConfig *cds_glue_config(PyInterpreterState *interp);

/* The version that the next code object gets; 0 when no versions are left. */
uint32_t *cds_glue_next_code_version(PyInterpreterState *interp);

/* Whether the calling thread runs the main interpreter. */
int cds_glue_is_main_interpreter(void);

/* Whether there is a PyCode_AddWatcher() callback for new code objects. */
int cds_glue_has_code_watchers(void);

/* Length of a code object's bytecode in bytes, and the bytecode. */
Py_ssize_t cds_glue_bytecode_bytes(PyCodeObject *code);
const void *cds_glue_bytecode(PyCodeObject *code);

/* The result of PyUnicode_CHECK_INTERNED(), and the characters of a string. */
unsigned int cds_glue_interned_state(PyObject *string);
const void *cds_glue_characters(PyObject *string);

/* Values of PyASCIIObject.state.interned (cpython/unicodeobject.h). */
extern const unsigned int cds_glue_not_interned;
extern const unsigned int cds_glue_interned_static;

/* tp_name of an object's type. */
const char *cds_glue_type_name(PyObject *object);

/* The string in the dict of interned strings that equals the given one, or NULL;
   borrowed. */
PyObject *cds_glue_find_interned(PyObject *string);

/* The frame that called the given one; for NULL, the innermost frame of this
   thread. */
struct _PyInterpreterFrame *cds_glue_frame_below(struct _PyInterpreterFrame *frame);
/* The code object of a frame; NULL if a generator owns the frame, or if C code
   has created it to call Python code. */
PyCodeObject *cds_glue_stack_frame_code(struct _PyInterpreterFrame *frame);
/* The local variables of a frame, as many as its code has; each is an object or
   NULL. */
PyObject **cds_glue_frame_locals(struct _PyInterpreterFrame *frame);
/* The code object of a frame that a generator owns, if the generator is running
   and has called C code; otherwise NULL. In this state, traversing the generator
   does not visit its local variables (_PyFrame_Traverse()). */
PyCodeObject *cds_glue_running_generator_code(struct _PyInterpreterFrame *frame);
/* The number of entries of the evaluation stack, which follows the local
   variables. */
int cds_glue_stack_size(PyCodeObject *code);
/* The dict with the variables of a module or class that the frame runs, or NULL;
   and the function that the frame runs. */
PyObject *cds_glue_frame_namespace(struct _PyInterpreterFrame *frame);
PyObject *cds_glue_frame_function(struct _PyInterpreterFrame *frame);
int cds_glue_local_count(PyCodeObject *code);

/* The code object of a function, or NULL if the object is not a function. */
PyObject *cds_glue_function_code(PyObject *object);

/* Whether sys.setdlopenflags() has not changed the flags for dlopen(). */
int cds_glue_has_default_dlopen_flags(void);

/* How many allocations cause a garbage collection (gc.get_threshold()[0]). */
int cds_glue_gc_threshold(PyInterpreterState *interp);

/* Whether the program can notice collections (gc.callbacks, gc.set_debug()). */
int cds_glue_gc_is_observed(PyInterpreterState *interp);

/* The head of a list of the garbage collector: the list of a generation, or, for
   NUM_GENERATIONS, the list of objects that gc.freeze() has moved away. */
PyGC_Head *cds_glue_generation(int index);

/* Calls tp_traverse of an object, if the garbage collector can track it. The
   second function visits the parts of a code object, which has no tp_traverse. */
void cds_glue_traverse(PyObject *object, visitproc visit, void *argument);
void cds_glue_traverse_code(PyCodeObject *code, visitproc visit, void *argument);

/* Calls tp_clear of an object, if the garbage collector can track it. */
int cds_glue_clear(PyObject *object);

/* PyObject_IS_GC(), whether the object is tracked, whether its finalizer was
   called. */
int cds_glue_is_gc(PyObject *object);
int cds_glue_is_tracked(PyObject *object);
int cds_glue_is_finalized(PyObject *object);

Py_ssize_t cds_glue_refcount(PyObject *object);
int cds_glue_is_immortal(PyObject *object);

/* Gives an object the reference count of immortal objects, and, if it is an
   interned string, the interned state that belongs to it. */
void cds_glue_make_immortal(PyObject *object);

int cds_glue_is_module(PyObject *object);
int cds_glue_is_module_or_type(PyObject *object);

/* The dict of a module or type, or NULL for another object; borrowed. */
PyObject *cds_glue_namespace(PyObject *object);

int cds_glue_is_dict(PyObject *object);

/* Calls a function with each piece of memory that must be written before the
   object can refer to another one; returns 0 if these pieces are not known.
   `python_class` is a class defined in Python: all such classes have the same
   tp_traverse. */
typedef void (*cds_glue_piece)(const void *start, size_t bytes, void *argument);
int cds_glue_pieces(PyObject *object, PyTypeObject *python_class,
                    cds_glue_piece visit, void *argument);

/* Offsets of the fields that lead to the code that a thread runs. */
struct cds_glue_places {
    size_t main_interpreter;    /* _PyRuntimeState */
    size_t first_thread;        /* PyInterpreterState */
    size_t next_thread;         /* PyThreadState */
    size_t thread_id;
    size_t frame;
    size_t previous_frame;      /* _PyInterpreterFrame */
    size_t executable;
    size_t file_name;           /* PyCodeObject */
    size_t name;
};
extern const struct cds_glue_places cds_glue_places;

/* Whether the object's type was created at run time, by Python code or by C code. */
int cds_glue_has_heap_type(PyObject *object);

/* Whether the object is neither a module, a type, a function nor a frame: these
   cannot be used any more after they were cleared. */
int cds_glue_is_plain_container(PyObject *object);

int cds_glue_is_frame(PyObject *object);

/* Whether the object is a generator, a coroutine or an asynchronous generator.
   For such an object: whether it has finished, and whether closing it runs no
   code (gen_close() in Objects/genobject.c). */
int cds_glue_is_generator(PyObject *object);
int cds_glue_generator_is_finished(PyObject *object);
int cds_glue_generator_closes_silently(PyObject *object);

int cds_glue_is_weak_reference(PyObject *object);
void cds_glue_clear_weak_reference(PyWeakReference *reference);

/* The first weak reference to an object, or NULL; borrowed. */
PyWeakReference *cds_glue_weak_references(PyObject *object);

/* The name of a function written in C; the name of the module of a function
   written in Python, borrowed. NULL if the object is something else. */
const char *cds_glue_c_function_name(PyObject *object);
PyObject *cds_glue_function_module(PyObject *object);

/* Whether a type has tp_finalize or tp_del. */
int cds_glue_has_finalizer(PyTypeObject *type);

/* Whether the type's objects can differ in what happens when they are destroyed. */
int cds_glue_may_vary(PyTypeObject *type);
/* tp_finalize, tp_dealloc, tp_base, tp_name. */
const void *cds_glue_finalizer(PyTypeObject *type);
const void *cds_glue_dealloc(PyTypeObject *type);
PyTypeObject *cds_glue_base(PyTypeObject *type);
const char *cds_glue_name(PyTypeObject *type);

int cds_glue_has_capsule_destructor(PyObject *object);

/* __del__ of a class; NULL if it has none, or has tp_del; borrowed. */
PyObject *cds_glue_python_finalizer(PyTypeObject *type);

/* An attribute from the dict of a type or of one of its bases, or NULL; borrowed. */
PyObject *cds_glue_type_attribute(PyTypeObject *type, const char *name);

/* The function and the object of a bound method; NULL for another object;
   borrowed. */
PyObject *cds_glue_method_function(PyObject *object);
PyObject *cds_glue_method_object(PyObject *object);

/* The code of a function that is written in Python, can be called with this number
   of positional arguments, and runs unchanged: no tool monitors it, and its
   vectorcall function was not replaced. NULL otherwise; borrowed. */
PyObject *cds_glue_plain_code(PyObject *object, Py_ssize_t arguments);

/* Whether any tool observes calls of Python functions, in any thread
   (sys.settrace(), sys.setprofile(), sys.monitoring, PEP 523). */
int cds_glue_sees_calls(void);

/* Whether setting or deleting the attribute changes the object's dict and has no
   other effect; and whether the attribute is in that dict. */
int cds_glue_has_attributes_in_dict(PyObject *object, PyObject *name);
int cds_glue_is_in_dict(PyObject *object, PyObject *name);

/* Whether objects of two types have the same tp_finalize and tp_repr. */
int cds_glue_ends_alike(PyTypeObject *first, PyTypeObject *second);

/* Clears a namespace as the interpreter does at its end (_PyModule_ClearDict()). */
void cds_glue_clear_namespace(PyObject *dict);

/* sys.modules, the dicts of sys and builtins, and the copy of the latter that was
   made at the start; borrowed. */
PyObject *cds_glue_modules(void);
PyObject *cds_glue_sys_namespace(void);
PyObject *cds_glue_builtins(void);
PyObject *cds_glue_first_builtins(void);

/* Runs a full collection, whether or not collections are enabled. Returns the
   number of objects that were garbage. */
Py_ssize_t cds_glue_collect(void);

/* Empties gc.callbacks. */
void cds_glue_forget_collection_callbacks(void);

/* The handler of a signal; NULL if there is no handler, or no such signal. */
PyObject *cds_glue_signal_handler(int signal);

/* Takes an object, or NULL, from the states of the current thread and of the
   interpreter. The indices follow the order in which these states drop the objects
   at their end (PyThreadState_Clear() and interpreter_clear() in
   Python/pystate.c). Returns 0 if the index is too large. */
int cds_glue_take_kept_by_states(int index, PyObject **taken);

/* Allocates all free memory in pages that hold objects, and never frees it. Later
   objects get pages of their own (Objects/obmalloc.c). */
void cds_glue_use_up_free_memory(void);

/* Calls a function with the start of each block of memory that is freed when the
   object dies and not earlier: the object's own block, and the blocks that a type
   or module allocates once. */
typedef void (*cds_glue_block)(const void *start, void *argument);
void cds_glue_lasting_blocks(PyObject *object, cds_glue_block visit,
                             void *argument);

/* Sets the result of Py_GetArgcArgv() to a copy of the list. Uses the allocator of
   _Py_SetArgcArgv() (Python/initconfig.c). Returns -1 if there is no memory left. */
int cds_glue_set_original_arguments(const PyWideStringList *arguments);

/* Removes all strings from a list of the configuration. */
void cds_glue_clear_arguments(PyWideStringList *list);

/* The data of gc.get_stats(): one element for each of NUM_GENERATIONS. */
struct gc_generation_stats *cds_glue_collections(void);

/* The size of an arena of obmalloc in bytes, the number of slots for arenas, and
   the address of the arena in a slot, or 0 (Objects/obmalloc.c). */
extern const size_t cds_glue_arena_bytes;
unsigned int cds_glue_arena_count(void);
size_t cds_glue_arena(unsigned int index);

/* Gives an object another type. Instances of both types have the same layout. */
void cds_glue_set_type(PyObject *object, PyObject *type);

/* Replaces the list of hooks that sys.addaudithook() has added, by a list or NULL,
   and returns the former one. The interpreter takes over the new reference, and
   the caller the former one. The new list is untracked, since the collector does
   not know the interpreter's list (Python/sysmodule.c, sys_addaudithook_impl()). */
PyObject *cds_glue_swap_audit_hooks(PyObject *hooks);

/* Whether there is an audit hook of C code (PySys_AddAuditHook()). */
int cds_glue_has_native_audit_hooks(void);

/* Whether tracemalloc records allocations. */
int cds_glue_traces_memory(void);

/* The interpreter's variable that holds its list of handlers of
   os.register_at_fork(), or NULL. Kind 0: before a fork, 1: after it in the
   parent, 2: after it in the child. */
PyObject **cds_glue_at_fork_handlers(int kind);
