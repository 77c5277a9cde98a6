// Default options of the sanitizers for the emulator's programs. The first report ends the process: later ones would
// follow from it.
extern "C" {

char const* __asan_default_options() {
    // Leaks: fibers keep their stacks for the next launch. Use after return is not supported on the stacks of fibers.
    return "detect_leaks=0:detect_stack_use_after_return=0:exitcode=90:allocator_may_return_null=1";
}
char const* __ubsan_default_options() { return "print_stacktrace=1:halt_on_error=1"; }
char const* __tsan_default_options() {
    return "halt_on_error=1:atexit_sleep_ms=0:exitcode=91:report_thread_leaks=0:report_signal_unsafe=0";
}
char const* __msan_default_options() { return "exitcode=92"; }

}  // extern "C"
