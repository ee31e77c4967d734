"""Every function of torch that a mode can see is read as a kind, or is stated here to be none."""

import copy
import pickle
import warnings

import pytest
import torch
from torch.overrides import get_overridable_functions

import sightline as sl
from sightline.operations import KINDS, Kind, kinds
from sightline.operations.kinds._spelling import spelling

# Read as unknown: methods with rules refuse them by name, and the gradient passes. What is missing here and spelled by
# no kind is new in torch: give it to a kind, or state it here.
NO_KIND = {
    "properties, questions and sizes": """
        allclose apply autocast autocast_to_full_precision autocast_to_reduced_precision backward_hooks base
        bool ccol_indices cdata clear_non_serializable_cached_data col_indices const_data_ptr contains
        crow_indices data_ptr deepcopy dense_dim device dim dimI dimV dim_order dlpack dlpack_device dtype
        element_size equal format get get_device grad grad_dtype grad_fn hash_tensor imag indices int_repr ipu
        is_coalesced is_complex is_conj is_contiguous is_cpu is_cuda is_distributed is_floating_point
        is_inference is_ipu is_leaf is_maia is_meta is_mkldnn is_mps is_mtia is_neg is_nested is_nonzero
        is_pinned is_quantized is_same_size is_set_to is_shared is_signed is_sparse is_sparse_csr is_view
        is_vulkan is_xla is_xpu isin itemsize layout len map map2 module_load mtia name nbytes ndim ndimension
        nelement nested_tensor_size nested_tensor_storage_offsets nested_tensor_strides nnz numel output_nr
        pin_memory post_accumulate_grad_hooks q_per_channel_axis q_per_channel_scales
        q_per_channel_zero_points q_scale q_zero_point qscheme real record_stream reduce_ex repr retains_grad
        reversed row_indices set setstate shape share_memory size sparse_dim storage storage_offset
        storage_type sym_float sym_int sym_ite sym_max sym_min sym_not sym_sqrt sym_sum untyped_storage values
        version volatile xpu
    """,
    "what leaves torch, or the graph": """
        array array_wrap backward byte cdouble cfloat chalf char coalesce coalesced complex conj conj_physical
        data dequantize detach detach_copy index int item lobpcg long numpy register_hook
        register_post_accumulate_grad_hook resize resize_as resize_as_sparse resolve_conj resolve_neg
        retain_grad short sparse_mask sparse_mask_projection sparse_resize sparse_resize_and_clear to_dense
        to_mkldnn to_sparse tolist view_as_complex view_as_complex_copy view_as_real view_as_real_copy
    """,
    "creation and random draws": """
        bernoulli binomial cartesian_prod cauchy combinations empty_like exponential feature_dropout fill
        fill_diagonal full_like geometric log_normal meshgrid multinomial native_dropout nonzero
        nonzero_static normal one_hot ones_like poisson rand random uniform zero zeros_like
    """,
    "comparisons, whole numbers and rounding": """
        all and any argmax argmin argsort argwhere bincount bitwise_and bitwise_left_shift bitwise_not
        bitwise_or bitwise_right_shift bitwise_xor bucketize ceil copysign count_nonzero eq fix floor
        floor_divide floordiv fmod frac frexp gcd ge greater greater_equal gt heaviside histc histogram
        histogramdd iand ifloordiv ilshift imod invert ior irshift isclose isfinite isinf isnan isneginf
        isposinf isreal ixor lcm ldexp le less less_equal logical_and logical_not logical_or logical_xor
        lshift lt mod mode ne nextafter not_equal or remainder rfloordiv rlshift rmod ror round rrshift rshift
        rxor searchsorted sgn sign signbit trunc unique unique_consecutive unravel_index xor
    """,
    "losses": """
        binary_cross_entropy binary_cross_entropy_with_logits cosine_embedding_loss cross_entropy ctc_loss
        dist gaussian_nll_loss hinge_embedding_loss huber_loss kl_div l1_loss linear_cross_entropy
        margin_ranking_loss mse_loss multi_margin_loss multilabel_margin_loss multilabel_soft_margin_loss
        nll_loss poisson_nll_loss smooth_l1_loss soft_margin_loss triplet_margin_loss
        triplet_margin_with_distance_loss
    """,
    "linear algebra": """
        addbmm addr block_diag cdist chain_matmul cholesky cholesky_inverse cholesky_solve corrcoef
        cosine_similarity cov cross det diag diag_embed diagflat dsmm frobenius_norm geqrf ger hsmm inner
        inverse linalg_cholesky linalg_cholesky_ex linalg_cond linalg_cross linalg_det linalg_diagonal
        linalg_eig linalg_eigh linalg_eigvals linalg_eigvalsh linalg_householder_product linalg_inv
        linalg_inv_ex linalg_ldl_factor linalg_ldl_factor_ex linalg_ldl_solve linalg_lstsq linalg_lu
        linalg_lu_factor linalg_lu_factor_ex linalg_lu_solve linalg_matmul linalg_matrix_exp
        linalg_matrix_norm linalg_matrix_power linalg_matrix_rank linalg_multi_dot linalg_norm linalg_pinv
        linalg_qr linalg_slogdet linalg_solve linalg_solve_ex linalg_solve_triangular linalg_svd
        linalg_svdvals linalg_tensorinv linalg_tensorsolve linalg_vander linalg_vecdot linalg_vector_norm
        logdet lu lu_solve lu_unpack matrix_exp matrix_power miopen_batch_norm mvlgamma native_batch_norm
        native_group_norm native_layer_norm native_norm norm norm_except_dim nuclear_norm orgqr ormqr
        pairwise_distance pca_lowrank pdist pinverse qr quantized_batch_norm renorm saddmm slogdet smm
        sspaddmm svd svd_lowrank trace triangular_solve tril triu vdot
    """,
    "special functions and functions of each value": """
        absolute acos acosh addcdiv angle arccos arccosh arcsin arcsinh arctan arctan2 arctanh asin asinh atan
        atan2 atanh cosh deg2rad digamma erf erfc erfinv exp2 expm1 float_power fmax fmin hypot i0 igamma
        igammac lerp lgamma log10 log2 log_sigmoid logaddexp logaddexp2 logit nan_to_num polar polygamma
        positive rad2deg reciprocal rpow sinc sinh special_airy_ai special_bessel_j0 special_bessel_j1
        special_bessel_y0 special_bessel_y1 special_chebyshev_polynomial_t special_chebyshev_polynomial_u
        special_chebyshev_polynomial_v special_chebyshev_polynomial_w special_digamma special_entr special_erf
        special_erfc special_erfcx special_erfinv special_exp2 special_expit special_expm1 special_gammainc
        special_gammaincc special_gammaln special_hermite_polynomial_h special_hermite_polynomial_he
        special_i0 special_i0e special_i1 special_i1e special_laguerre_polynomial_l
        special_legendre_polynomial_p special_log1p special_log_ndtr special_log_softmax special_logit
        special_logsumexp special_modified_bessel_i0 special_modified_bessel_i1 special_modified_bessel_k0
        special_modified_bessel_k1 special_multigammaln special_ndtr special_ndtri special_polygamma
        special_psi special_round special_scaled_modified_bessel_k0 special_scaled_modified_bessel_k1
        special_shifted_chebyshev_polynomial_t special_shifted_chebyshev_polynomial_u
        special_shifted_chebyshev_polynomial_v special_shifted_chebyshev_polynomial_w special_sinc
        special_softmax special_spherical_bessel_j0 special_xlog1py special_xlogy special_zeta tan xlogy
    """,
    "Fourier transforms": """
        fft_fft fft_fft2 fft_fftn fft_fftshift fft_hfft fft_hfft2 fft_hfftn fft_ifft fft_ifft2 fft_ifftn
        fft_ifftshift fft_ihfft fft_ihfft2 fft_ihfftn fft_irfft fft_irfft2 fft_irfftn fft_rfft fft_rfft2
        fft_rfftn istft stft
    """,
    "sums and sorts of other kinds": """
        aminmax cummax cummin cumprod cumsum cumulative_trapezoid diff gradient logcumsumexp logsumexp
        nanmedian nanquantile prod quantile std std_mean sum_to_size take trapezoid trapz var var_mean
    """,
    "pooling, convolutions and norms by other names": """
        adaptive_max_pool1d_with_indices adaptive_max_pool2d_with_indices adaptive_max_pool3d_with_indices
        affine_grid affine_grid_generator batch_norm_backward_elemt batch_norm_backward_reduce
        batch_norm_elemt batch_norm_gather_stats batch_norm_gather_stats_with_counts batch_norm_stats
        batch_norm_update_stats conv_tbc embedding embedding_bag fractional_max_pool2d_with_indices
        fractional_max_pool3d_with_indices grid_sampler grid_sampler_2d grid_sampler_3d lp_pool1d lp_pool2d
        lp_pool3d max_pool1d_with_indices max_pool3d_with_indices max_unpool1d max_unpool2d max_unpool3d
        miopen_convolution miopen_convolution_add_relu miopen_convolution_relu miopen_convolution_transpose
        miopen_depthwise_convolution miopen_rnn quantized_max_pool1d quantized_max_pool2d quantized_max_pool3d
    """,
    "recurrent layers and attention": """
        gru gru_cell lstm lstm_cell multi_head_attention_forward quantized_gru_cell quantized_lstm_cell
        quantized_rnn_relu_cell quantized_rnn_tanh_cell rnn_relu rnn_relu_cell rnn_tanh rnn_tanh_cell
    """,
    "quantisation": """
        choose_qparams_optimized fake_quantize_per_channel_affine fake_quantize_per_tensor_affine
        fbgemm_linear_fp16_weight fbgemm_linear_fp16_weight_fp32_activation fbgemm_linear_int8_weight
        fbgemm_linear_int8_weight_fp32_activation fbgemm_linear_quantize_weight fbgemm_pack_gemm_matrix_fp16
        fbgemm_pack_quantized_matrix fused_moving_avg_obs_fake_quant quantize_per_channel quantize_per_tensor
        quantize_per_tensor_dynamic
    """,
    "views, copies and writes by other names": """
        adjoint alias_copy as_strided_copy as_strided_scatter broadcast_tensors broadcast_to ccol_indices_copy
        col_indices_copy column_stack crow_indices_copy diagonal_copy diagonal_scatter dsplit expand_copy
        fliplr flipud index_add index_copy index_fill index_put index_reduce indices_copy masked_scatter
        masked_select moveaxis narrow_copy permute_copy put row_indices_copy row_stack scatter scatter_add
        scatter_reduce select_copy select_scatter slice_copy slice_inverse slice_scatter split_copy
        split_with_sizes_copy squeeze_copy t_copy transpose_copy unbind_copy unfold_copy unsafe_chunk
        unsafe_split unsafe_split_with_sizes unsqueeze_copy values_copy view_copy
    """,
}


def test_every_function_of_torch_is_read_as_a_kind_or_stated_to_be_none() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        functions = [function for group in get_overridable_functions().values() for function in group]
    read = [spelling(function)[:2] for function in functions]
    spelled = {name for name, kind in read if kind is not kinds.UNKNOWN}
    stated = {name for names in NO_KIND.values() for name in names.split()}
    assert len(spelled) > 150, "torch no longer lists its functions"
    assert sorted({name for name, _ in read} - spelled - stated) == []
    assert sorted(stated & spelled) == []


def test_a_name_is_stated_once() -> None:
    names = " ".join(NO_KIND.values()).split()
    assert len(names) == len(set(names))


def test_a_kind_with_a_spelling_or_name_of_another_is_refused() -> None:
    class Mine(Kind):
        name = "mine"
        spellings = "relu"

    class Other(Kind):
        name = "rectifier"

    with pytest.raises(sl.InputError, match="relu is a spelling of 'rectifier' already, so not of 'mine'"):
        KINDS.register(Mine())
    with pytest.raises(sl.InputError, match="There is a kind of operation named 'rectifier' already"):
        KINDS.register(Other())
    assert "mine" not in map(str, KINDS)
    assert spelling(torch.relu) == ("relu", kinds.RECTIFIER, False)


@pytest.mark.parametrize("kind", tuple(KINDS), ids=str)
def test_a_kind_stays_itself_when_copied_or_pickled(kind: Kind) -> None:
    assert copy.deepcopy(kind) is kind
    assert pickle.loads(pickle.dumps(kind)) is kind  # noqa: S301 - our own
