//! A static model of w4ax's CUDA kernels: reads machine code, predicts times and generates the kernel table.
