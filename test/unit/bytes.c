/*
 * bytes.c
 *		A buffer grows within its limit, in few steps, and to no more than what is expected while that is what comes.
 */
#include "unit.h"

#include "base/bytes.h"

#define LIMIT ((size_t) 4 * 1024 * 1024)

static void
test_growth(void)
{
	static const struct
	{
		const char *what;
		size_t expected;
		size_t comes;
		size_t most; /* capacity at the end */
		int steps;   /* at most */
	} cases[] = {
		{"what nobody has announced doubles", 0, 1400000, 2097152, 12},
		{"what was announced has its size, and a NUL byte", 1400000, 1400000, 1400001, 11},
		{"so does what is small", 3000, 3000, 3001, 2},
		{"more than was announced doubles", 1000000, 1400000, 2000002, 12},
		{"less than was announced takes no more than four times its bytes", 4000000, 600000,
		 2400000, 11},
		{"nothing passes the limit", 3 * LIMIT, LIMIT, LIMIT, 14},
		{"... whatever was announced", LIMIT - 1, LIMIT, LIMIT, 14},
	};
	static char piece[4096];
	int i;

	for (i = 0; i < lengthof(cases); i++)
	{
		Bytes *bytes = bytes_create(CurrentMemoryContext, LIMIT);
		size_t capacity = 0;
		size_t most = 0; /* times its bytes */
		bool holds = true;
		int steps = 0;

		bytes->expected = cases[i].expected;
		while (bytes->len < cases[i].comes)
		{
			size_t len = Min(cases[i].comes - bytes->len, sizeof(piece));

			holds &= bytes_capacity_for(bytes, len) >= bytes->len + len;
			holds &= bytes_append(bytes, piece, len);
			steps += bytes->capacity != capacity;
			capacity = bytes->capacity;
			most = Max(most, capacity / bytes->len);
		}
		unit_ok(holds && bytes->len == cases[i].comes, "%s: it comes", cases[i].what);
		unit_ok(bytes->capacity <= cases[i].most, "%s: %zu bytes", cases[i].what, bytes->capacity);
		unit_ok(steps <= cases[i].steps, "%s: %d steps", cases[i].what, steps);
		unit_ok(most <= 4, "%s: %zu times its bytes", cases[i].what, most);
		bytes_clear(bytes);
	}
}

static void
test_limit(void)
{
	Bytes *bytes = bytes_create(CurrentMemoryContext, 10);

	unit_ok(bytes_append(bytes, "0123456789", 10), "a buffer takes its limit");
	unit_ok(!bytes_append(bytes, "a", 1) && bytes->len == 10, "... and no byte more");
	bytes_clear(bytes);
	unit_ok(bytes->data == NULL && bytes->len == 0 && bytes->capacity == 0,
			"cleared, it has nothing");
}

void
unit_run(void)
{
	test_growth();
	test_limit();
}
