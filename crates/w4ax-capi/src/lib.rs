//! The C ABI of w4ax: static and shared libraries with the headers w4ax.h and w4ax_gpu.h.
