/* SPDX-License-Identifier: Apache-2.0 */
/* The names of the metrics that riffle-vmm counts itself; Firecracker's users look for exactly these. */
#ifndef RIFFLE_API_METRIC_NAMES_H
#define RIFFLE_API_METRIC_NAMES_H

/* COUNT(group, name): printed as the increment since the last line. STORE: printed as it is. */
#define METRICS_API_SERVER(COUNT, STORE)                                                                               \
	STORE(api_server, process_startup_time_us)                                                                     \
	STORE(api_server, process_startup_time_cpu_us)

#define METRICS_DEPRECATED_API(COUNT, STORE) COUNT(deprecated_api, deprecated_http_api_calls)

#define METRICS_GET_API_REQUESTS(COUNT, STORE)                                                                         \
	COUNT(get_api_requests, instance_info_count)                                                                   \
	COUNT(get_api_requests, machine_cfg_count)                                                                     \
	COUNT(get_api_requests, mmds_count)                                                                            \
	COUNT(get_api_requests, vmm_version_count)                                                                     \
	COUNT(get_api_requests, hotplug_memory_count)

#define METRICS_LATENCIES_US(COUNT, STORE)                                                                             \
	STORE(latencies_us, full_create_snapshot)                                                                      \
	STORE(latencies_us, diff_create_snapshot)                                                                      \
	STORE(latencies_us, load_snapshot)                                                                             \
	STORE(latencies_us, reset_snapshot)                                                                            \
	STORE(latencies_us, pause_vm)                                                                                  \
	STORE(latencies_us, resume_vm)                                                                                 \
	STORE(latencies_us, vmm_full_create_snapshot)                                                                  \
	STORE(latencies_us, vmm_diff_create_snapshot)                                                                  \
	STORE(latencies_us, vmm_load_snapshot)                                                                         \
	STORE(latencies_us, vmm_reset_snapshot)                                                                        \
	STORE(latencies_us, vmm_pause_vm)                                                                              \
	STORE(latencies_us, vmm_resume_vm)

#define METRICS_LOGGER(COUNT, STORE)                                                                                   \
	COUNT(logger, missed_metrics_count)                                                                            \
	COUNT(logger, metrics_fails)                                                                                   \
	COUNT(logger, missed_log_count)                                                                                \
	COUNT(logger, rate_limited_log_count)

#define METRICS_PATCH_API_REQUESTS(COUNT, STORE)                                                                       \
	COUNT(patch_api_requests, drive_count)                                                                         \
	COUNT(patch_api_requests, drive_fails)                                                                         \
	COUNT(patch_api_requests, network_count)                                                                       \
	COUNT(patch_api_requests, network_fails)                                                                       \
	COUNT(patch_api_requests, machine_cfg_count)                                                                   \
	COUNT(patch_api_requests, machine_cfg_fails)                                                                   \
	COUNT(patch_api_requests, mmds_count)                                                                          \
	COUNT(patch_api_requests, mmds_fails)                                                                          \
	COUNT(patch_api_requests, hotplug_memory_count)                                                                \
	COUNT(patch_api_requests, hotplug_memory_fails)                                                                \
	COUNT(patch_api_requests, pmem_count)                                                                          \
	COUNT(patch_api_requests, pmem_fails)

#define METRICS_PUT_API_REQUESTS(COUNT, STORE)                                                                         \
	COUNT(put_api_requests, actions_count)                                                                         \
	COUNT(put_api_requests, actions_fails)                                                                         \
	COUNT(put_api_requests, boot_source_count)                                                                     \
	COUNT(put_api_requests, boot_source_fails)                                                                     \
	COUNT(put_api_requests, drive_count)                                                                           \
	COUNT(put_api_requests, drive_fails)                                                                           \
	COUNT(put_api_requests, logger_count)                                                                          \
	COUNT(put_api_requests, logger_fails)                                                                          \
	COUNT(put_api_requests, machine_cfg_count)                                                                     \
	COUNT(put_api_requests, machine_cfg_fails)                                                                     \
	COUNT(put_api_requests, cpu_cfg_count)                                                                         \
	COUNT(put_api_requests, cpu_cfg_fails)                                                                         \
	COUNT(put_api_requests, metrics_count)                                                                         \
	COUNT(put_api_requests, metrics_fails)                                                                         \
	COUNT(put_api_requests, network_count)                                                                         \
	COUNT(put_api_requests, network_fails)                                                                         \
	COUNT(put_api_requests, mmds_count)                                                                            \
	COUNT(put_api_requests, mmds_fails)                                                                            \
	COUNT(put_api_requests, vsock_count)                                                                           \
	COUNT(put_api_requests, vsock_fails)                                                                           \
	COUNT(put_api_requests, pmem_count)                                                                            \
	COUNT(put_api_requests, pmem_fails)                                                                            \
	COUNT(put_api_requests, serial_count)                                                                          \
	COUNT(put_api_requests, serial_fails)                                                                          \
	COUNT(put_api_requests, hotplug_memory_count)                                                                  \
	COUNT(put_api_requests, hotplug_memory_fails)

#define METRICS_SECCOMP(COUNT, STORE) STORE(seccomp, num_faults)

#define METRICS_VMM(COUNT, STORE) COUNT(vmm, panic_count)

#define METRICS_SIGNALS(COUNT, STORE)                                                                                  \
	STORE(signals, sigbus)                                                                                         \
	STORE(signals, sigsegv)                                                                                        \
	STORE(signals, sigxfsz)                                                                                        \
	STORE(signals, sigxcpu)                                                                                        \
	STORE(signals, sigpipe)                                                                                        \
	STORE(signals, sighup)                                                                                         \
	STORE(signals, sigill)

#define METRICS_MMDS(COUNT, STORE)                                                                                     \
	COUNT(mmds, rx_accepted)                                                                                       \
	COUNT(mmds, rx_accepted_err)                                                                                   \
	COUNT(mmds, rx_accepted_unusual)                                                                               \
	COUNT(mmds, rx_bad_eth)                                                                                        \
	COUNT(mmds, rx_invalid_token)                                                                                  \
	COUNT(mmds, rx_no_token)                                                                                       \
	COUNT(mmds, rx_count)                                                                                          \
	COUNT(mmds, tx_bytes)                                                                                          \
	COUNT(mmds, tx_count)                                                                                          \
	COUNT(mmds, tx_errors)                                                                                         \
	COUNT(mmds, tx_frames)                                                                                         \
	COUNT(mmds, connections_created)                                                                               \
	COUNT(mmds, connections_destroyed)

#endif
