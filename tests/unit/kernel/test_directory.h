/* SPDX-License-Identifier: Apache-2.0 */
/* The directory from which the code under test takes riffle-prepare, which the test can change. */
#ifndef RIFFLE_TEST_DIRECTORY_H
#define RIFFLE_TEST_DIRECTORY_H

extern char test_directory[4096];

#endif
