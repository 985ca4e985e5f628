//! What the inputs of several operations have in common. The library gives them the same fields, and no type for them.

/// The encryption that a request which writes asks for.
macro_rules! asked {
    ($input:ident) => {
        Asked {
            algorithm: $input.server_side_encryption,
            key_id: $input.ssekms_key_id,
            context: $input.ssekms_encryption_context,
            customer: customer!($input),
        }
    };
}

/// The customer's key that comes with a request.
macro_rules! customer {
    ($input:ident) => {
        Customer::of($input.sse_customer_algorithm, $input.sse_customer_key, $input.sse_customer_key_md5)
    };
}

/// The customer's key that the object is read with which is copied.
macro_rules! source_customer {
    ($input:ident) => {
        Customer::of(
            $input.copy_source_sse_customer_algorithm,
            $input.copy_source_sse_customer_key,
            $input.copy_source_sse_customer_key_md5,
        )
    };
}

/// What must be true of the object that is copied.
macro_rules! source_conditions {
    ($input:ident) => {
        Conditions {
            if_match: etags($input.copy_source_if_match.as_ref()),
            if_none_match: etags($input.copy_source_if_none_match.as_ref()),
            if_modified_since: $input.copy_source_if_modified_since.map(system_time),
            if_unmodified_since: $input.copy_source_if_unmodified_since.map(system_time),
        }
    };
}

/// What must be true of the object that is read.
macro_rules! conditions {
    ($input:ident) => {
        Conditions {
            if_match: etags($input.if_match.as_ref()),
            if_none_match: etags($input.if_none_match.as_ref()),
            if_modified_since: $input.if_modified_since.map(system_time),
            if_unmodified_since: $input.if_unmodified_since.map(system_time),
        }
    };
}

/// What an object is to have besides its bytes.
macro_rules! attributes {
    ($input:ident) => {
        attributes(
            [
                ("cache-control", $input.cache_control),
                ("content-disposition", $input.content_disposition),
                ("content-encoding", without_chunked($input.content_encoding)),
                ("content-language", $input.content_language),
                ("content-type", $input.content_type),
            ],
            $input.expires,
            $input.metadata,
        )
    };
}

/// Refuses what a request for a new object asks for and is not here.
macro_rules! refuse_extras {
    ($input:ident) => {
        refuse_acl($input.acl.as_ref())?;
        refuse_extras(
            $input.tagging.is_some(),
            $input.object_lock_mode.is_some(),
            $input.website_redirect_location.is_some(),
        )?;
        refuse_class($input.storage_class.as_ref())?;
    };
}

/// What a request says of its body.
macro_rules! announced {
    ($input:ident, $headers:ident, $trailing_headers:ident) => {
        Announced {
            len: $input.content_length,
            md5: $input.content_md5,
            checksums: checksums!($input),
            trailers: $trailing_headers,
            trailer: trailer(&$headers),
        }
    };
}

pub(super) use {
    announced, asked, attributes, conditions, customer, refuse_extras, source_conditions, source_customer,
};
