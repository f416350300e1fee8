#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "tools/run.h"

static const char *const manners[] = {
	"bold", "brave", "bright", "brisk", "calm", "clever", "cosy", "daring", "deft", "eager",
	"early", "fair", "fleet", "frank", "gentle", "glad", "grand", "hardy", "honest", "jolly",
	"keen", "kind", "late", "lively", "lucky", "mellow", "merry", "mild", "neat", "nimble",
	"noble", "patient", "plain", "polite", "proud", "quick", "quiet", "ready", "shy", "silent",
	"sleek", "steady", "stout", "sunny", "swift", "tidy", "vivid", "warm", "wild", "witty",
};

/* Birds that travel. */
static const char *const birds[] = {
	"avocet", "bluethroat", "brambling", "bunting", "buzzard", "chiffchaff", "cormorant", "crane",
	"cuckoo", "curlew", "dotterel", "dunlin", "eider", "fieldfare", "flycatcher", "gannet",
	"garganey", "goshawk", "greenshank", "gull", "harrier", "heron", "hobby", "hoopoe", "ibis",
	"kestrel", "kingfisher", "kite", "knot", "lapwing", "martin", "nightjar", "oriole", "osprey",
	"petrel", "pintail", "pipit", "plover", "puffin", "redstart", "redwing", "roller", "ruff",
	"sandpiper", "shearwater", "shrike", "skua", "snipe", "starling", "stint", "stork", "swallow",
	"swan", "swift", "tern", "thrush", "turnstone", "wagtail", "warbler", "wheatear", "whimbrel",
	"wigeon", "woodcock", "wryneck",
};

#define COUNT(a) (sizeof(a) / sizeof(*(a)))
#define TRIES 1000

int run_choose_name(const struct node *node, char **ret, struct error *err)
{
	char name[SPEC_NAME_MAX];
	unsigned short random[3];
	struct stat st;

	for (int i = 0; i < TRIES; i++) {
		if (getrandom(random, sizeof(random), 0) != sizeof(random))
			return error_set(err, errno, "random name: %s", strerror(errno));
		(void)snprintf(name, sizeof(name), "%s-%s-%u", manners[random[0] % COUNT(manners)],
			       birds[random[1] % COUNT(birds)], random[2] % 100u);
		if (fstatat(node->containers_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			continue;
		*ret = strdup(name);
		return *ret ? 0 : error_set(err, ENOMEM, "out of memory");
	}
	return error_set(err, EEXIST, "no random name is free; choose one with --name");
}
