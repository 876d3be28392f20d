/* A folder in /tmp that all ranks of a test know. */
#ifndef EQS_TESTS_FOLDER_H
#define EQS_TESTS_FOLDER_H

extern char folder[64];

/* The first rank makes and removes it. Collective over MPI_COMM_WORLD. */
void make_folder(void);
void remove_folder(void);

#endif
