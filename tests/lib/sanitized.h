/* SPDX-License-Identifier: Apache-2.0 */
/* SANITIZED: 1 in a build with AddressSanitizer, which places variables and makes system calls of its own; otherwise 0.
 */
#ifndef RIFFLE_TESTS_SANITIZED_H
#define RIFFLE_TESTS_SANITIZED_H

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#endif
