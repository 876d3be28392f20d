/* The kernels that BLIS computes with. */
#ifndef EQS_DIST_KERNELS_H
#define EQS_DIST_KERNELS_H

/* Name of the set of kernels that BLIS computes with: "skx", "zen3", ...; "generic" is plain C and slow. */
const char *eqs_blis_kernels(void);

/* The version of BLIS: "0.9.0". */
const char *eqs_blis_version(void);

#endif
