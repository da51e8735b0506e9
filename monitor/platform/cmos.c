/* SPDX-License-Identifier: Apache-2.0 */
/* The CMOS clock (MC146818): the host's time of day, 128 bytes of memory, no interrupt. */
#include "monitor/platform/cmos.h"

#include <string.h>
#include <time.h>

#include "monitor/platform/platform.h"

enum {
	REG_SECONDS = 0x00,
	REG_MINUTES = 0x02,
	REG_HOURS = 0x04,
	REG_WEEKDAY = 0x06, /* 1 is Sunday */
	REG_MONTH_DAY = 0x07,
	REG_MONTH = 0x08,
	REG_YEAR = 0x09,
	REG_A = 0x0a, /* bit 7, update in progress, is never set: guests poll it */
	REG_B = 0x0b,
	REG_C = 0x0c, /* interrupt flags: none ever */
	REG_D = 0x0d, /* bit 7: time and memory are valid */
	REG_CENTURY = 0x32,
};

#define A_UPDATE_IN_PROGRESS 0x80u
#define A_RESET 0x26u /* 32.768 kHz time base, 1024 Hz */
#define B_24_HOURS 0x02u
#define B_BINARY 0x04u
#define D_VALID 0x80u

struct civil_time {
	unsigned year, month, day, weekday, hour, minute, second;
};

/*
 * Proleptic Gregorian calendar from days since 1970, counting years from March of the year 0, the earliest time.
 * libc's gmtime_r would read the time zone files, which a confined process must not open.
 */
static struct civil_time civil(int64_t seconds)
{
	int64_t days = seconds / 86400, rest = seconds % 86400;
	if (rest < 0) {
		rest += 86400;
		days--;
	}
	int64_t shifted = days + 719468; /* days since 0000-03-01 */
	int64_t era = shifted / 146097;
	unsigned day_of_era = (unsigned)(shifted - era * 146097);
	unsigned year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	unsigned day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	unsigned march_month = (5 * day_of_year + 2) / 153;
	unsigned month = march_month < 10 ? march_month + 3 : march_month - 9;
	return (struct civil_time){
	    .year = (unsigned)(era * 400) + year_of_era + (month <= 2),
	    .month = month,
	    .day = day_of_year - (153 * march_month + 2) / 5 + 1,
	    .weekday = (unsigned)(((days + 4) % 7 + 7) % 7),
	    .hour = (unsigned)(rest / 3600),
	    .minute = (unsigned)(rest / 60 % 60),
	    .second = (unsigned)(rest % 60),
	};
}

static int64_t host_time(void)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec;
}

static uint8_t clock_value(const struct cmos *cmos, unsigned value)
{
	if (cmos->bytes[REG_B] & B_BINARY)
		return (uint8_t)value;
	return (uint8_t)(value / 10 % 10 << 4 | value % 10);
}

static uint8_t cmos_read(void *device, unsigned offset)
{
	struct cmos *cmos = device;
	if (offset == 0)
		return 0xff; /* the index is write-only */
	struct civil_time t = civil(cmos->now());
	switch (cmos->index) {
	case REG_SECONDS:
		return clock_value(cmos, t.second);
	case REG_MINUTES:
		return clock_value(cmos, t.minute);
	case REG_HOURS:
		return clock_value(cmos, t.hour);
	case REG_WEEKDAY:
		return clock_value(cmos, t.weekday + 1);
	case REG_MONTH_DAY:
		return clock_value(cmos, t.day);
	case REG_MONTH:
		return clock_value(cmos, t.month);
	case REG_YEAR:
		return clock_value(cmos, t.year % 100);
	case REG_CENTURY:
		return clock_value(cmos, t.year / 100);
	default:
		return cmos->bytes[cmos->index];
	}
}

static void cmos_write(void *device, unsigned offset, uint8_t value)
{
	struct cmos *cmos = device;
	if (offset == 0) {
		cmos->index = value & 0x7f; /* bit 7 masks NMIs, of which there are none */
		return;
	}
	switch (cmos->index) {
	case REG_A:
		value &= (uint8_t)~A_UPDATE_IN_PROGRESS;
		break;
	case REG_B:
		value |= B_24_HOURS;
		break;
	case REG_C:
	case REG_D:
		return;
	default: /* writes to the clock are ignored: the time is the host's */
		break;
	}
	cmos->bytes[cmos->index] = value;
}

int cmos_attach(struct cmos *cmos, struct bus *bus, int64_t (*now)(void), struct riffle_error *error)
{
	memset(cmos, 0, sizeof *cmos);
	cmos->now = now ? now : host_time;
	cmos->bytes[REG_A] = A_RESET;
	cmos->bytes[REG_B] = B_24_HOURS;
	cmos->bytes[REG_D] = D_VALID;
	cmos->registers = (struct bus_bytes){.read = cmos_read, .write = cmos_write, .device = cmos};
	return bus_add_byte_ports(bus, PORT_CMOS, 2, &cmos->registers, error);
}
