/* SPDX-License-Identifier: Apache-2.0 */
/* Where the code under test takes riffle-prepare from: a directory that the test can fill and change. */
#ifndef RIFFLE_TEST_DIRECTORY_H
#define RIFFLE_TEST_DIRECTORY_H

extern char test_directory[4096];

#endif
