#ifndef Py_INTERNAL_CDS_H
#define Py_INTERNAL_CDS_H
#ifdef __cplusplus
extern "C" {
#endif

#ifndef Py_BUILD_CORE
#  error "this header requires Py_BUILD_CORE define"
#endif

#include "pycore_importdl.h"      // PyModInitFunction

/* Everything the interpreter may ask of the archive runtime.

   The functions are written in Rust (runtime/library/src/ffi.rs).  None of them
   raises, except where said: whatever goes wrong in there, the answer is
   "not from the archive" and the caller goes on as stock CPython does. */

/* Read the options from the interpreter's config and map the archive they ask
   for.  Called once for the main interpreter, before its first object exists:
   a string interned earlier would be the twin of an archived one.
   Return 0 to go on, 1 to end the process with exit status 1 (-X cds_strict
   and no usable archive; the reason is on stderr). */
extern int _PyCDS_Initialize(PyInterpreterState *interp);

/* Called before the module site is imported, or would be.  In a process that an
   image is to be taken of, posix.environ reports its uses from here on. */
extern void _PyCDS_ImportingSite(void);

/* Called after the module site has been imported: starts the drop-in for
   PyPI's code-data-share if the environment asks for it.  What goes wrong is
   shown on stderr. */
extern void _PyCDS_SiteImported(void);

/* Called once when Py_FinalizeEx() starts, after the atexit callbacks. */
extern void _PyCDS_Finalize(PyInterpreterState *interp);

/* The archived string equal to s, an exact str that is not interned, or NULL.
   The result is interned and immortal. */
extern PyObject *_PyCDS_FindInterned(PyObject *s);

/* The code object of a frozen module, given the marshalled bytes that it
   stands for, or NULL.  The result is immortal. */
extern PyObject *_PyCDS_GetFrozenCode(PyObject *name, const char *data);

/* _imp._cds_find_module(directory, name, loaders)
   What FileFinder would find as name in directory: None for "don't know",
   () for "nothing", or (loader class, path, submodule search locations).
   May raise MemoryError. */
extern PyObject *_PyCDS_FindModule(PyObject *module, PyObject *const *args,
                                   Py_ssize_t nargs);

/* _imp._cds_get_code(fullname, source_path)
   The archived code of an unchanged source file, or None. */
extern PyObject *_PyCDS_GetCode(PyObject *module, PyObject *const *args,
                                Py_ssize_t nargs);

#define _PyCDS_IMP_METHODS \
    {"_cds_find_module", _PyCFunction_CAST(_PyCDS_FindModule), METH_FASTCALL, \
     PyDoc_STR("What an archived directory holds under a name.")}, \
    {"_cds_get_code", _PyCFunction_CAST(_PyCDS_GetCode), METH_FASTCALL, \
     PyDoc_STR("The archived code of an unchanged source file.")},

/* _sre._cds_find_pattern((type, pattern, flags), compiler)
   What compiler, re._compiler.compile(), would return for an archived pattern,
   or None. */
extern PyObject *_PyCDS_FindPattern(PyObject *module, PyObject *const *args,
                                    Py_ssize_t nargs);

#define _PyCDS_SRE_METHODS \
    {"_cds_find_pattern", _PyCFunction_CAST(_PyCDS_FindPattern), \
     METH_FASTCALL, PyDoc_STR("An archived compiled pattern.")},

/* Whether an automatic garbage collection that is due can wait: archived code
   has been handed out since the last one was due. */
extern int _PyCDS_PostponesGC(PyInterpreterState *interp);

/* An extension module of the standard library whose objects are linked in. */
struct _PyCDS_LinkedExtension {
    const char *name;           // NULL ends the list
    uint64_t bytes;             // Of the file built from the same objects,
    uint64_t checksum;          // and its XXH3.
    PyModInitFunction init;
};

/* Modules/cds_extensions.o */
extern const struct _PyCDS_LinkedExtension _PyCDS_LinkedExtensions[];

/* The init function of an extension module that is linked in and whose file
   at path is unchanged, or NULL. */
extern PyModInitFunction _PyCDS_FindLinkedInit(const char *name,
                                               const char *path);

/* Called before the program runs.  Return 1 with an exit code if the process was
   started to take an image of; 0 to run the program, which is what a restored
   process does too. */
extern int _PyCDS_TakeImage(int *exitcode);

/* Called when a module that was not loaded yet has been imported.  In the process
   that an image of a program is to be taken of, the process forks here: the
   image is taken of one of these, which go on here when they are restored. */
extern void _PyCDS_ModuleImported(PyInterpreterState *interp,
                                  PyObject *module);

/* Called before a RecursionError is raised.  In a process that an image is to be
   taken of, that may be too early. */
extern void _PyCDS_RecursionExceeded(void);

/* Call set_up(module) while the module is being imported, which is initialized in a
   single phase.  In a process that an image is to be taken of, that may wait until
   somebody uses the module, or the image is restored.  Return what set_up has
   returned, or 0: it is negative if the module cannot be set up. */
extern int _PyCDS_SetUpOrWait(PyObject *module, int (*set_up)(PyObject *module));

/* Called before garbage is collected and modules are destroyed.  Return 1 if the
   process was restored from an image: everything is finalized then whose end can
   be seen, and the rest shall stay. */
extern int _PyCDS_FinalizeRestored(PyInterpreterState *interp);

/* Whether the process was restored from an image: its objects are put aside then,
   where the collector does not look, and a program finds them all the same. */
extern int _PyCDS_IsRestored(void);

/* Called last of all.  End the process if it was restored from an image and has
   loaded no library since, whose destructors would have to run. */
extern void _PyCDS_EndRestored(int exitcode);

#ifdef Py_DEBUG
/* Whether a string may be immortal without being interned: it lies in an archive
   that is in use, or in a startup image. */
extern int _PyCDS_IsImmortal(PyObject *object);
#endif

/* The builtin module _cds_archive: writing archives, and what became of the
   mapped one. */
extern PyObject *PyInit__cds_archive(void);

#ifdef __cplusplus
}
#endif
#endif /* !Py_INTERNAL_CDS_H */
