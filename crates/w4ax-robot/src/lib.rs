//! Robot policies, recordings, training and reports that the w4ax command line runs.
