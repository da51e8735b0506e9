/* SPDX-License-Identifier: Apache-2.0 */
/* The check of a layout's slides, which a load makes too. */
#ifndef RIFFLE_LAYOUT_SLIDES_H
#define RIFFLE_LAYOUT_SLIDES_H

#include <riffle/layout.h>

/* Each slide is one that riffle_layout_draw() could have drawn. Errors: ARGUMENT (slide_count), FORMAT. */
int riffle_layout_check_slides(const struct riffle_layout *layout, const struct riffle_plan *plan,
			       struct riffle_error *error);

#endif
