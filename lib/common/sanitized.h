/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SANITIZED: 1 in a build with a sanitizer whose run-time maps terabytes of shadow memory, places variables, and makes
 * system calls of its own (address, memory, thread); otherwise 0.
 */
#ifndef RIFFLE_COMMON_SANITIZED_H
#define RIFFLE_COMMON_SANITIZED_H

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#endif
