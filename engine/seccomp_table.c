#include <linux/capability.h>
#include <stddef.h>

#include "engine/seccomp_table.h"

#define NEEDS(cap) (UINT64_C(1) << (cap))

const struct seccomp_group seccomp_groups[] = {
	/* files and directories */
	{ SECCOMP_ALWAYS,
	  "access cachestat chdir chmod chown chown32 close close_range copy_file_range creat dup "
	  "dup2 dup3 faccessat faccessat2 fadvise64 fadvise64_64 fallocate fchdir fchmod fchmodat "
	  "fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock "
	  "fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate "
	  "ftruncate64 futimesat getcwd getdents getdents64 getxattr getxattrat ioctl lchown "
	  "lchown32 lgetxattr link linkat listxattr listxattrat llistxattr _llseek lremovexattr "
	  "lseek lsetxattr lstat lstat64 mkdir mkdirat mknod mknodat name_to_handle_at newfstatat "
	  "open openat openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead "
	  "readdir readlink readlinkat readv removexattr removexattrat rename renameat renameat2 "
	  "rmdir sendfile sendfile64 setxattr setxattrat splice stat stat64 statfs statfs64 statx "
	  "symlink symlinkat sync sync_file_range syncfs tee truncate truncate64 umask unlink "
	  "unlinkat utime utimensat utimensat_time64 utimes write writev" },
	/* waiting for events, asynchronous input and output */
	{ SECCOMP_ALWAYS,
	  "epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait "
	  "epoll_wait_old eventfd eventfd2 fanotify_mark inotify_add_watch inotify_init "
	  "inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents "
	  "io_pgetevents_time64 io_setup io_submit _newselect pipe pipe2 poll ppoll ppoll_time64 "
	  "pselect6 pselect6_time64 select signalfd signalfd4" },
	/* sockets; socket itself has a rule of its own */
	{ SECCOMP_ALWAYS,
	  "accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom "
	  "recvmmsg recvmmsg_time64 recvmsg send sendmmsg sendmsg sendto setsockopt shutdown "
	  "socketcall socketpair" },
	/* memory */
	{ SECCOMP_ALWAYS,
	  "brk get_mempolicy madvise map_shadow_stack mbind membarrier memfd_create mincore mlock "
	  "mlock2 mlockall mmap mmap2 mprotect mremap mseal msync munlock munlockall munmap pkey_alloc "
	  "pkey_free pkey_mprotect process_mrelease remap_file_pages set_mempolicy" },
	/* processes and threads; new namespaces are the kernel's to refuse */
	{ SECCOMP_ALWAYS,
	  "arch_prctl clone clone3 execve execveat exit exit_group fork get_robust_list "
	  "get_thread_area getcpu getpgid getpgrp getpid getppid getpriority getrlimit getrusage "
	  "getsid gettid ioprio_get ioprio_set kill modify_ldt nice pause pidfd_getfd pidfd_open "
	  "pidfd_send_signal prctl prlimit64 process_vm_readv process_vm_writev ptrace "
	  "restart_syscall rseq sched_get_priority_max sched_get_priority_min sched_getaffinity "
	  "sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval "
	  "sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam "
	  "sched_setscheduler sched_yield set_robust_list set_thread_area set_tid_address setpgid "
	  "setpriority setrlimit setsid sysinfo tgkill times tkill ugetrlimit uname unshare vfork "
	  "wait4 waitid waitpid" },
	/* signals and futexes */
	{ SECCOMP_ALWAYS,
	  "futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake rt_sigaction "
	  "rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend "
	  "rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaction sigaltstack signal "
	  "sigpending sigprocmask sigreturn sigsuspend" },
	/* users, groups, capabilities, sandboxes */
	{ SECCOMP_ALWAYS,
	  "capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 "
	  "getresgid getresgid32 getresuid getresuid32 getuid getuid32 landlock_add_rule "
	  "landlock_create_ruleset landlock_restrict_self seccomp setfsgid setfsgid32 setfsuid "
	  "setfsuid32 setgid setgid32 setgroups setgroups32 setregid setregid32 setresgid "
	  "setresgid32 setresuid setresuid32 setreuid setreuid32 setuid setuid32" },
	/* time and randomness; the kernel refuses to set the clock */
	{ SECCOMP_ALWAYS,
	  "adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 "
	  "clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 getitimer "
	  "getrandom gettimeofday nanosleep setitimer time timer_create timer_delete "
	  "timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 "
	  "timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64" },
	/* System V and POSIX message passing */
	{ SECCOMP_ALWAYS,
	  "ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend "
	  "mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop "
	  "semtimedop semtimedop_time64 shmat shmctl shmdt shmget" },

	{ NEEDS(CAP_SYS_ADMIN),
	  "fanotify_init fsconfig fsmount fsopen fspick listmount lookup_dcookie mount "
	  "mount_setattr move_mount open_tree pivot_root quotactl quotactl_fd setdomainname "
	  "sethostname setns statmount umount umount2" },
	{ NEEDS(CAP_SYS_ADMIN) | NEEDS(CAP_BPF), "bpf" },
	{ NEEDS(CAP_SYS_ADMIN) | NEEDS(CAP_PERFMON), "perf_event_open" },
	{ NEEDS(CAP_SYS_ADMIN) | NEEDS(CAP_SYSLOG), "syslog" },
	{ NEEDS(CAP_DAC_READ_SEARCH), "open_by_handle_at" },
	{ NEEDS(CAP_SYS_BOOT), "reboot" },
	{ NEEDS(CAP_SYS_CHROOT), "chroot" },
	{ NEEDS(CAP_SYS_MODULE), "delete_module finit_module init_module" },
	{ NEEDS(CAP_SYS_NICE), "migrate_pages move_pages set_mempolicy_home_node" },
	{ NEEDS(CAP_SYS_PACCT), "acct" },
	{ NEEDS(CAP_SYS_PTRACE), "kcmp process_madvise" },
	{ NEEDS(CAP_SYS_RAWIO), "ioperm iopl" },
	{ NEEDS(CAP_SYS_TIME), "clock_settime clock_settime64 settimeofday stime" },
	{ NEEDS(CAP_SYS_TTY_CONFIG), "vhangup" },

	/* Key rings and io_uring are outside of every namespace or can't be
	 * moved to another machine; the others are obsolete or the host's. */
	{ SECCOMP_NEVER,
	  "add_key bdflush create_module get_kernel_syms io_uring_enter io_uring_register "
	  "io_uring_setup kexec_file_load kexec_load keyctl memfd_secret nfsservctl oldfstat "
	  "oldlstat oldolduname oldstat olduname pciconfig_iobase pciconfig_read pciconfig_write "
	  "query_module request_key sgetmask ssetmask swapoff swapon _sysctl sysfs uselib "
	  "userfaultfd ustat vm86 vm86old vmsplice" },
	{ 0, NULL },
};
