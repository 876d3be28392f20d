/*
 * The lock on a directory of checkpoints: two jobs, or two sessions, that write into one would remove and replace each
 * other's files. It is a POSIX lock on DIRECTORY/.lock: it works on network file systems, ends with the process that
 * has it, however that ends, and processes forked from that do not have it. In the file is who has it, for others to be
 * told. The file stays: whoever removed it could remove it under another's lock.
 *
 * A process that closes any descriptor of a file loses its POSIX locks on it: so nothing else of this process opens the
 * file, a table of what the process holds says whether it has it already, and eqs_directory_lock_renew heals it.
 */
#ifndef EQS_CHECKPOINT_LOCK_H
#define EQS_CHECKPOINT_LOCK_H

#include <stdbool.h>

#include "base/status.h"

typedef struct eqs_directory_lock eqs_directory_lock;

/*
 * Take the lock of a directory.
 *
 * make  [in]  make the directory if it is missing; else there is nothing to lock then, and no warning: it is tried
 * again lock  [out] NULL: there is none, because nothing can be written there; or because a full disk or a file system
 *             without locks stands in the way, with a warning
 *
 * Not collective. EQS_USAGE: another process, or another session of this one, has it; the message says which.
 */
eqs_status eqs_directory_lock_take(const char *directory, bool make, eqs_directory_lock **lock);

/* Before writing: take it again if this process has lost it. EQS_USAGE: another has taken it meanwhile. */
eqs_status eqs_directory_lock_renew(const eqs_directory_lock *lock);

/* Sets *lock to NULL. */
void eqs_directory_lock_release(eqs_directory_lock **lock);

#endif
