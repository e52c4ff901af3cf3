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

/* The code object of a function, or NULL if it is something else. */
PyObject *cds_glue_function_code(PyObject *object);

/* Whether dlopen() gets the flags that sys.setdlopenflags() has not changed. */
int cds_glue_has_default_dlopen_flags(void);

/* How many allocations make a garbage collection due (gc.get_threshold()[0]). */
int cds_glue_gc_threshold(PyInterpreterState *interp);

/* Whether the program looks at collections (gc.callbacks, gc.set_debug()). */
int cds_glue_gc_is_observed(PyInterpreterState *interp);

/* Makes all objects that the garbage collector tracks immortal, and those that
   they refer to; and moves the former where it does not look. */
void cds_glue_immortalize(void);

/* Allocates, for good, what is free in memory that has objects: those that come
   next get memory of their own (Objects/obmalloc.c). */
void cds_glue_use_up_free_memory(void);

/* Bytes of an arena of obmalloc, how many places for one there are, and the
   address of the one at a place, or 0 (Objects/obmalloc.c). */
extern const size_t cds_glue_arena_bytes;
unsigned int cds_glue_arena_count(void);
size_t cds_glue_arena(unsigned int index);

/* Gives an object another type, whose instances have the same layout. */
void cds_glue_set_type(PyObject *object, PyObject *type);

/* Removes the hooks that sys.addaudithook() has added to the interpreter. */
void cds_glue_forget_audit_hooks(void);

/* Whether there is an audit hook, of Python code or of C code. */
int cds_glue_has_audit_hooks(void);

/* Whether tracemalloc notes each allocation. */
int cds_glue_traces_memory(void);

/* Where the interpreter has its list of handlers of os.register_at_fork(), or
   NULL: 0 before a fork, 1 after it in the parent, 2 after it in the child. */
PyObject **cds_glue_at_fork_handlers(int kind);
