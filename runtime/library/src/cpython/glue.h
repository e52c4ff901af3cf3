/* What the Rust side sees of CPython: its headers, and those few things that
   are macros or inline functions there. Each function states one expression of
   CPython's; there is no logic here. */

#include "Python.h"
#include "marshal.h"
#include "opcode_ids.h"
#include "pycore_gc.h"
#include "pycore_cds.h"
#include "pycore_importdl.h"

/* Reference count of an immortal object (Include/object.h). */
extern const Py_ssize_t cds_glue_immortal_refcount;

/* Address of a static object of the interpreter. */
extern const void *const cds_glue_anchor;

/* The configuration of an interpreter. */
const PyConfig *cds_glue_config(PyInterpreterState *interp);

/* The version that the next code object gets; 0 when they have run out. */
uint32_t *cds_glue_next_code_version(PyInterpreterState *interp);

/* Whether the calling thread runs the main interpreter. */
int cds_glue_is_main_interpreter(void);

/* Whether a PyCode_AddWatcher() callback waits for new code objects. */
int cds_glue_has_code_watchers(void);

/* Length of a code object's bytecode in bytes, and the bytecode. */
Py_ssize_t cds_glue_bytecode_bytes(PyCodeObject *code);
const void *cds_glue_bytecode(PyCodeObject *code);

/* What PyUnicode_CHECK_INTERNED() says, and the characters of a string. */
unsigned int cds_glue_interned_state(PyObject *string);
const void *cds_glue_characters(PyObject *string);

/* Values of PyASCIIObject.state.interned (cpython/unicodeobject.h). */
extern const unsigned int cds_glue_not_interned;
extern const unsigned int cds_glue_interned_static;

/* tp_name of an object's type. */
const char *cds_glue_type_name(PyObject *object);

/* The string in the dict of interned strings that is equal to one, or NULL;
   borrowed. */
PyObject *cds_glue_find_interned(PyObject *string);

/* The frame that called the one given, or the innermost frame of this thread for
   NULL; the code object of a frame, or NULL if a generator has it, or C code has
   made it to call Python code; and the local variables of a frame, as many as its code has, each an
   object or NULL, with the dict that has those of a module or a class, or NULL;
   and the function that it runs. */
struct _PyInterpreterFrame *cds_glue_frame_below(struct _PyInterpreterFrame *frame);
PyCodeObject *cds_glue_stack_frame_code(struct _PyInterpreterFrame *frame);
PyObject **cds_glue_frame_locals(struct _PyInterpreterFrame *frame);
/* The code object of a frame that a generator has, if it runs and has called C code:
   then the generator does not tell of its local variables (_PyFrame_Traverse()). */
PyCodeObject *cds_glue_running_generator_code(struct _PyInterpreterFrame *frame);
/* How many places there are for what expressions have found, behind the variables. */
int cds_glue_stack_size(PyCodeObject *code);
PyObject *cds_glue_frame_namespace(struct _PyInterpreterFrame *frame);
PyObject *cds_glue_frame_function(struct _PyInterpreterFrame *frame);
int cds_glue_local_count(PyCodeObject *code);

/* The code object of a function, or NULL if it is something else. */
PyObject *cds_glue_function_code(PyObject *object);

/* Whether dlopen() gets the flags that sys.setdlopenflags() has not changed. */
int cds_glue_has_default_dlopen_flags(void);

/* How many allocations make a garbage collection due (gc.get_threshold()[0]). */
int cds_glue_gc_threshold(PyInterpreterState *interp);

/* Whether the program looks at collections (gc.callbacks, gc.set_debug()). */
int cds_glue_gc_is_observed(PyInterpreterState *interp);

/* The head of a list of the garbage collector: of a generation, or, for
   NUM_GENERATIONS, of what gc.freeze() has put aside. */
PyGC_Head *cds_glue_generation(int index);

/* tp_traverse of an object that may be tracked, and the same for a code object,
   which has none. */
void cds_glue_traverse(PyObject *object, visitproc visit, void *argument);
void cds_glue_traverse_code(PyCodeObject *code, visitproc visit, void *argument);

/* tp_clear of an object that may be tracked. */
int cds_glue_clear(PyObject *object);

/* PyObject_IS_GC(), whether it is tracked, and whether its finalizer was called. */
int cds_glue_is_gc(PyObject *object);
int cds_glue_is_tracked(PyObject *object);
int cds_glue_is_finalized(PyObject *object);

Py_ssize_t cds_glue_refcount(PyObject *object);
int cds_glue_is_immortal(PyObject *object);

/* Gives an object the reference count that is never changed, and, if it is an
   interned string, the state that goes with it. */
void cds_glue_make_immortal(PyObject *object);

int cds_glue_is_module(PyObject *object);
int cds_glue_is_module_or_type(PyObject *object);

/* The dict of a module or a type that has one of its own, or NULL; borrowed. */
PyObject *cds_glue_namespace(PyObject *object);

int cds_glue_is_dict(PyObject *object);

/* Calls a function with each piece of memory that changes when the object comes to
   refer to others; returns 0 if these are not known. All classes that are defined
   in Python have the same tp_traverse as the given one. */
typedef void (*cds_glue_piece)(const void *start, size_t bytes, void *argument);
int cds_glue_pieces(PyObject *object, PyTypeObject *python_class,
                    cds_glue_piece visit, void *argument);

/* Where the interpreter's structs have what leads to the code that a thread runs. */
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

/* Whether its type was made at run time, by Python code or by C code. */
int cds_glue_has_heap_type(PyObject *object);

/* Whether it is neither a module, a type, a function nor a frame: these are of no
   use when they are cleared. */
int cds_glue_is_plain_container(PyObject *object);

int cds_glue_is_frame(PyObject *object);

/* Whether it is a generator, a coroutine or an asynchronous generator; if it is
   one, whether it has ended, and whether to close it runs no code (gen_close()
   in Objects/genobject.c). */
int cds_glue_is_generator(PyObject *object);
int cds_glue_generator_is_finished(PyObject *object);
int cds_glue_generator_closes_silently(PyObject *object);

int cds_glue_is_weak_reference(PyObject *object);
void cds_glue_clear_weak_reference(PyWeakReference *reference);

/* The first weak reference to an object, or NULL; borrowed. */
PyWeakReference *cds_glue_weak_references(PyObject *object);

/* The name of a function written in C, and the name of the module of one written
   in Python; NULL if it is something else; borrowed. */
const char *cds_glue_c_function_name(PyObject *object);
PyObject *cds_glue_function_module(PyObject *object);

/* Whether a type has tp_finalize or tp_del. */
int cds_glue_has_finalizer(PyTypeObject *type);

/* Whether the end of objects of a type may differ from one to the other. */
int cds_glue_may_vary(PyTypeObject *type);
/* tp_finalize, tp_dealloc, tp_base, tp_name. */
const void *cds_glue_finalizer(PyTypeObject *type);
const void *cds_glue_dealloc(PyTypeObject *type);
PyTypeObject *cds_glue_base(PyTypeObject *type);
const char *cds_glue_name(PyTypeObject *type);

int cds_glue_has_capsule_destructor(PyObject *object);

/* __del__ of a class, or NULL if it has none, or another finalizer; borrowed. */
PyObject *cds_glue_python_finalizer(PyTypeObject *type);

/* An attribute of a type and its bases, as it is in their dicts, or NULL; borrowed. */
PyObject *cds_glue_type_attribute(PyTypeObject *type, const char *name);

/* The function and the object of a bound method, or NULL; borrowed. */
PyObject *cds_glue_method_function(PyObject *object);
PyObject *cds_glue_method_object(PyObject *object);

/* The code of a function that can be called with so many positional arguments,
   if it is written in Python and runs as it is written: nobody monitors it, or has
   put another function in its place. NULL otherwise; borrowed. */
PyObject *cds_glue_plain_code(PyObject *object, Py_ssize_t arguments);

/* Whether somebody is told of calls of Python functions: of all of them, in any
   thread (sys.settrace(), sys.setprofile(), sys.monitoring, PEP 523). */
int cds_glue_sees_calls(void);

/* Whether setting or deleting an attribute of an object changes its dict, and does
   nothing else; and whether it is in that dict. */
int cds_glue_has_attributes_in_dict(PyObject *object, PyObject *name);
int cds_glue_is_in_dict(PyObject *object, PyObject *name);

/* Whether objects of two types have the same tp_finalize and tp_repr. */
int cds_glue_ends_alike(PyTypeObject *first, PyTypeObject *second);

/* What the interpreter does with a namespace that is still there at its end. */
void cds_glue_clear_namespace(PyObject *dict);

/* sys.modules, the dicts of sys and builtins, and a copy of the latter as it was
   at first; borrowed. */
PyObject *cds_glue_modules(void);
PyObject *cds_glue_sys_namespace(void);
PyObject *cds_glue_builtins(void);
PyObject *cds_glue_first_builtins(void);

/* A full collection, whether or not collections are enabled; returns how many
   objects were garbage. */
Py_ssize_t cds_glue_collect(void);

/* Empties gc.callbacks. */
void cds_glue_forget_collection_callbacks(void);

/* What is called at a signal; NULL if there is nothing, or no such signal. */
PyObject *cds_glue_signal_handler(int signal);

/* Takes an object, or NULL, from the states of the current thread and of the
   interpreter, which drop it at their end, in this order (PyThreadState_Clear()
   and interpreter_clear() in Python/pystate.c).  Returns 0 if there is no such
   index. */
int cds_glue_take_kept_by_states(int index, PyObject **taken);

/* Allocates, for good, what is free in memory that has objects: those that come
   next get memory of their own (Objects/obmalloc.c). */
void cds_glue_use_up_free_memory(void);

/* Calls a function with the start of each block of memory that is freed when an
   object dies, and not before: its own, and what types and modules get once. */
typedef void (*cds_glue_block)(const void *start, void *argument);
void cds_glue_lasting_blocks(PyObject *object, cds_glue_block visit,
                             void *argument);

/* Copies what Py_GetArgcArgv() returns, with the allocator that
   _Py_SetArgcArgv() uses for it (Python/initconfig.c); -1 without memory. */
int cds_glue_set_original_arguments(const PyWideStringList *arguments);

/* Removes all texts of a list of the configuration. */
void cds_glue_clear_arguments(PyWideStringList *list);

/* What gc.get_stats() returns: an element for each of NUM_GENERATIONS. */
struct gc_generation_stats *cds_glue_collections(void);

/* Bytes of an arena of obmalloc, how many places for one there are, and the
   address of the one at a place, or 0 (Objects/obmalloc.c). */
extern const size_t cds_glue_arena_bytes;
unsigned int cds_glue_arena_count(void);
size_t cds_glue_arena(unsigned int index);

/* Gives an object another type, whose instances have the same layout. */
void cds_glue_set_type(PyObject *object, PyObject *type);

/* Gives the interpreter another list of the hooks that sys.addaudithook() has added, or NULL, and returns the former one.
   Both references change hands. The collector does not know of the list (Python/sysmodule.c, sys_addaudithook_impl()). */
PyObject *cds_glue_swap_audit_hooks(PyObject *hooks);

/* Whether there is an audit hook of C code (PySys_AddAuditHook()). */
int cds_glue_has_native_audit_hooks(void);

/* Whether tracemalloc notes each allocation. */
int cds_glue_traces_memory(void);

/* Where the interpreter has its list of handlers of os.register_at_fork(), or
   NULL: 0 before a fork, 1 after it in the parent, 2 after it in the child. */
PyObject **cds_glue_at_fork_handlers(int kind);
